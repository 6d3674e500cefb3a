"""What is said over the control socket of a run, and where that socket is: one JSON object a line, both ways."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.control import ItemStatus, SwarmStatus

Action = Literal["pause", "resume", "cancel", "requeue", "steer"]

MOST_LINE = 64 * 1024
"""Bytes of one request at most, its line break included."""

MOST_REPLY = 16 * 1024 * 1024
"""Bytes of one reply that a client reads at most."""

MOST_ITEMS = 1_000
"""Tasks and workers in one reply at most, so that no reply takes long to make."""

SUFFIX = ".sock"
_MOST_PATH = 107  # bytes of a Unix socket's path on Linux; 103 elsewhere, where binding itself says so
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is wanted of a run.

    Args:
        op: ``status``, ``items`` and ``item`` only look.
        id: Of a task, of a worker, or of the run for all of it; not for ``status`` and ``items``.
        text: What to say, for ``steer``.
        kind: For ``items``: only those.
        state: For ``items``: only those in it.
        limit: For ``items``: at most so many, up to 1,000.
    """

    op: Literal["status", "items", "item", "pause", "resume", "cancel", "requeue", "steer"]
    id: str = ""
    text: str = ""
    kind: Literal["task", "worker"] | None = None
    state: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_ITEMS)] = 100


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the run says.

    Args:
        ok: Whether it was done.
        status: For ``status``.
        items: For ``items`` and ``item``.
        error: Why it was not done, in one sentence; empty if it was.
        remedy: What to do about it.
    """

    ok: bool = True
    status: SwarmStatus | None = None
    items: list[ItemStatus] | None = None
    error: str = ""
    remedy: str = ""


def control_folder() -> Path:
    """Where runs of this user put their control sockets: below the user's runtime folder, else below the temporary one.

    It need not exist.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "aurora-swarm"
    return Path(tempfile.gettempdir()) / f"aurora-swarm-{os.getuid()}"


def control_path(run_id: str, folder: Path | None = None) -> Path:
    """The socket of a run.

    Args:
        run_id: Its id.
        folder: Where; `control_folder` when None.

    Raises:
        UsageError: The id cannot be the name of a file.
    """
    if not _NAME.fullmatch(run_id):
        raise UsageError(
            f"{run_id!r} cannot name a control socket", remedy="a run's id is 1 to 64 letters, digits, '_', '-' and '.'"
        )
    return (folder or control_folder()) / f"{run_id}{SUFFIX}"


def check_place(path: Path) -> None:
    """See to it that a socket can be put at a path, and that only this user will reach it; its folder is made.

    Raises:
        UsageError: The path is too long, or others may enter its folder.
    """
    if len(os.fsencode(path)) > _MOST_PATH:
        raise UsageError(
            f"{path} is too long for a socket: {len(os.fsencode(path))} bytes of {_MOST_PATH}",
            remedy="give a shorter path",
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.parent.stat()
    except OSError as error:
        raise UsageError(f"{path.parent} cannot be used: {error.strerror}", remedy="give another path") from error
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            f"others than you may enter {path.parent}, and could steer the run",
            remedy=f"choose a folder of your own: mkdir -m 700 {path.parent / 'control'}",
        )
