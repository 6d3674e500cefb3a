"""Why a place cannot hold a store, and what kept one from being read or written, as errors with a remedy."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from aurora_swarm.errors import AuroraSwarmError, StorageError, StoreError, StoreHeldError
from aurora_swarm.journal.mounts import network_filesystem

FILE_NAME = "memory.sqlite"
_SUFFIXES = frozenset({".sqlite", ".sqlite3", ".db"})
MOUNTS = Path("/proc/mounts")
_ELSEWHERE = "name a folder on a local disk that you may write to"

Failure = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged file raises: the message of an error may itself be damaged text."""


def file_at(path: Path) -> Path:
    """The file of the store at a path: the path itself where it ends like a database, else one in that folder.

    The folder is made when it is not there.

    Raises:
        StoreError: The folder cannot be made.
    """
    if path.suffix in _SUFFIXES:
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = "a file, and no folder" if isinstance(error, FileExistsError) else _lowered(error)
        raise StoreError(f"{path}: {problem}", remedy=_ELSEWHERE) from error
    return path / FILE_NAME


def refuse_place(path: Path) -> None:
    """Refuse what no store can be at.

    Args:
        path: Absolute, without symbolic links.

    Raises:
        StoreError: The path is a folder or a device, its folder does not exist, or it lies on a network file system.
    """
    if path.exists() and not path.is_file():
        raise StoreError(f"{path}: not a regular file", remedy=_ELSEWHERE)
    if not path.parent.is_dir():
        raise StoreError(f"{path}: its folder does not exist", remedy=f"create {path.parent} or check the path")
    mounts = MOUNTS.read_text("utf-8", "surrogateescape") if MOUNTS.exists() else ""
    if kind := network_filesystem(str(path), mounts):
        raise StoreError(
            f"{path}: lies on a network file system ({kind}), where a store can be torn without anybody noticing",
            remedy="put it on a disk of this node, or use a Chroma server (chroma://host:port)",
        )


def refused(path: Path, error: OSError) -> AuroraSwarmError:
    """The error for a path that the system does not let us use."""
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
        return StoreError(f"{path}: {_lowered(error)}", remedy=_ELSEWHERE)
    return StorageError(_lowered(error), path=str(path), remedy="free space or check the disk")


def foreign(path: Path) -> StoreError:
    """The error for a file that is no store."""
    return StoreError(
        f"{path}: another program's database, left as it was", remedy="name another place, or move this file away"
    )


def newer(path: Path, version: int, known: int) -> StoreError:
    """The error for a format that is not known yet."""
    return StoreError(
        f"{path}: written in format {version}, this version knows {known}; left as it was",
        remedy="upgrade aurora-swarm, or name another place",
    )


def unwritten(path: Path, error: Exception) -> AuroraSwarmError:
    """The error for a file that cannot be opened, read or written."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreHeldError(f"{path}: another program has it open", remedy="close it there, then try again")
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return StoreError(f"{path}: {error}", remedy=_ELSEWHERE)
        case sqlite3.SQLITE_NOTADB:
            return foreign(path)
        case sqlite3.SQLITE_FULL:
            return StorageError(str(error), path=str(path), remedy="free space on the disk or raise the quota")
        case _:
            return StorageError(str(error), path=str(path), remedy="check the disk, or restore the file from a copy")


def _lowered(error: OSError) -> str:
    return f"{error.strerror or error}".lower()
