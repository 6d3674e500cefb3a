"""One owner at a time, kept by the operating system: the lock ends with its process, however that ends.

The lock file says who holds it, and how many records were acknowledged. A process that is killed leaves that number
behind, so that the next owner can tell a write that was cut off, and that nobody relied on, from one that was damaged.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

from aurora_swarm.errors import JournalHeldError

_LINE_BYTES = 200
_COUNT = re.compile(rb"acknowledged (\d{15})\n")


class Ownership:
    """Holds the lock file of a journal until `release`.

    Args:
        path: The lock file; created where it is missing, removed by `release`.

    Attributes:
        left: How many records an owner acknowledged that did not release; None when there was none or it did not say.

    Raises:
        JournalHeldError: Another run holds it; says which, where and since when.
        OSError: The lock file cannot be created or locked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _locked(path)
        try:
            self.left = self._introduce()
        except BaseException:
            os.close(self._file)
            raise

    def acknowledge(self, records: int) -> None:
        """Note how many records there are, all of them durable; outlives the process, not the machine."""
        os.pwrite(self._file, b"acknowledged %015d\n" % records, _LINE_BYTES)

    def release(self, *, keep: bool = False) -> None:
        """Let go. May be called twice.

        Args:
            keep: Leave the number behind, as a killed process does.
        """
        if self._file >= 0:
            # Unlinked while still locked: whoever waits with the old file open sees that it is gone and tries again.
            with contextlib.suppress(OSError):
                if not keep:
                    self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1

    def _introduce(self) -> int | None:
        """Say who holds the lock; returns the number that an earlier owner left, which stays as it is."""
        said = _COUNT.fullmatch(os.pread(self._file, _LINE_BYTES, _LINE_BYTES))
        since = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
        holder = f"process {os.getpid()} on {socket.gethostname()} since {since}".encode()
        os.pwrite(self._file, holder[: _LINE_BYTES - 1].ljust(_LINE_BYTES - 1) + b"\n", 0)
        return int(said[1]) if said else None


def _locked(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(file, path):
                return file
        except BlockingIOError:
            holder = os.pread(file, _LINE_BYTES, 0).decode(errors="replace").strip()
            os.close(file)
            raise _held(path, holder) from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether the path still leads to the file that was locked."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _held(path: Path, holder: str) -> JournalHeldError:
    journal = path.with_name(path.name.removesuffix(".lock"))
    return JournalHeldError(
        f"{journal}: held by {holder or 'a process that has not said who it is'}",
        remedy="wait for that run or stop it, or give this run a journal of its own",
    )
