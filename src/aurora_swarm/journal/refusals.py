"""Why a place cannot hold a journal, and what kept one from being read or written, as errors with a remedy."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from aurora_swarm.errors import AuroraSwarmError, JournalError, JournalForeignError, JournalHeldError, StorageError
from aurora_swarm.journal.mounts import network_filesystem
from aurora_swarm.journal.schema import APPLICATION_ID, MAGIC, VERSION

_ELSEWHERE = "name a file on a local disk that you may write to"
_RESUME = "then run again with the same journal: it resumes, and only what is missing from it is done again"
_HEADER_BYTES = 100


def refuse_place(path: Path, mounts: str) -> None:
    """Refuse what no journal can be at.

    Args:
        path: Absolute, without symbolic links.
        mounts: Text of ``/proc/mounts``; empty where there is none.

    Raises:
        JournalError: The path is a folder or a device, its folder does not exist, or it lies on a network file system.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "not a regular file"
        raise JournalError(f"{path}: {kind}", remedy="name a file in it" if path.is_dir() else _ELSEWHERE)
    if not path.parent.is_dir():
        raise JournalError(f"{path}: its folder does not exist", remedy=f"create {path.parent} or check the path")
    if kind := network_filesystem(str(path), mounts):
        raise JournalError(
            f"{path}: lies on a network file system ({kind}), where a journal can be torn without anybody noticing",
            remedy="put it on a disk of this node, such as /tmp or $TMPDIR, and copy it when the run has ended",
        )


def refuse_foreign(path: Path) -> bool:
    """Look at a file without changing it.

    Returns:
        Whether there is a journal of ours; False when there is nothing, or an empty file.

    Raises:
        JournalForeignError: There is something else, or a newer version wrote it.
        OSError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    if not header:
        return False
    if header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        what = (
            "another program's database, or a damaged or truncated journal"
            if header.startswith(MAGIC)
            else "no journal"
        )
        raise JournalForeignError(f"{path}: {what}; left as it was", remedy="name another file, or move this one away")
    if header.startswith(MAGIC):
        refuse_newer(path, int.from_bytes(header[60:64], "big"))
    return True


def refuse_newer(path: Path, version: int) -> None:
    """Raise `JournalForeignError` for a format that is not known yet."""
    if version > VERSION:
        raise JournalForeignError(
            f"{path}: written in format {version}, this version knows {VERSION}; left as it was",
            remedy="upgrade aurora-swarm, or name another file",
        )


def refused(path: Path, error: OSError) -> AuroraSwarmError:
    """The error for a path that the system does not let us use as a journal."""
    problem = f"{error.strerror or error}".lower()
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
        return JournalError(f"{path}: {problem}", remedy=_ELSEWHERE)
    return StorageError(problem, path=str(path), remedy=f"free space or check the disk, {_RESUME}")


def unopened(path: Path, error: Exception) -> AuroraSwarmError:
    """The error for a file that SQLite cannot open for reasons outside of it."""
    match _code(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return JournalHeldError(f"{path}: another program has it open", remedy="close it there, then try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return JournalError(f"{path}: {error}", remedy=_ELSEWHERE)
        case _:
            return unwritten(path, error)


def unwritten(path: Path, error: Exception) -> StorageError:
    """The error for a journal that cannot be written or read any more."""
    match _code(error):
        case sqlite3.SQLITE_FULL:
            remedy = f"free space on the disk or raise the quota, {_RESUME}"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            remedy = "run again with the same journal: what is intact is kept, the damaged file is put aside"
        case _:
            remedy = f"check the disk (space, quota, permissions, errors in the system's log), {_RESUME}"
    return StorageError(str(error), path=str(path), remedy=remedy)


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
