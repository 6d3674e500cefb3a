"""What a journal file looks like inside, and whether one still does.

A file is a SQLite database with our application id; `VERSION` is its user version. A later version adds tables and
migrates when it opens an older file; a newer file is refused. The order of statements is part of the format: it fixes
the pages at which the trees begin, so that a damaged first page can be replaced by a fresh one.
"""

from __future__ import annotations

import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import msgspec

APPLICATION_ID = 0x41537764
VERSION = 1
PAGE_SIZE = 4096
MAGIC = b"SQLite format 3\0"
_LAYOUT = PAGE_SIZE.to_bytes(2, "big") + bytes([2, 2, 0, 64, 32, 32])
"""What follows the magic: page size, write-ahead log to write and to read, no reserved space, fixed fractions."""

_TABLE = b"""CREATE TABLE records (
  id INTEGER PRIMARY KEY, key BLOB NOT NULL, checksum INTEGER NOT NULL, payload BLOB NOT NULL)"""
_INDEX = b"CREATE UNIQUE INDEX records_by_key ON records (key)"
_SCHEMA = [
    (b"table", b"records", b"records", 2, _TABLE),
    (b"index", b"records_by_key", b"records", 3, _INDEX),
]

Row = tuple[bytes, int, bytes]
"""A record as it is stored: key, checksum, payload."""

SqliteFailure = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading a damaged file raises: the message of an error may itself be damaged text."""

_OF_THE_SYSTEM = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}


class Examination(msgspec.Struct, frozen=True):
    """What was found in a file.

    Args:
        records: Rows that match their checksum.
        fault: The first thing that is wrong; empty when nothing is.
    """

    records: int
    fault: str = ""


def checksum(key: bytes, payload: bytes) -> int:
    """CRC-32 over key and payload; begins with the key's length, so that neither end can move into the other."""
    return zlib.crc32(payload, zlib.crc32(key, len(key)))


def intact(key: object, total: object, payload: object) -> bool:
    """Whether a row is what was once written."""
    return isinstance(key, bytes) and isinstance(payload, bytes) and checksum(key, payload) == total


def header_fault(path: Path) -> str:
    """What is wrong with the part of the first page that decides how SQLite reads and writes; empty when nothing is."""
    with path.open("rb") as file:
        header = file.read(len(MAGIC) + len(_LAYOUT))
    return "" if header == MAGIC + _LAYOUT else "its header is not what it was"


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing file for one owner; every commit is on the disk before it returns.

    The exclusive locking mode keeps the index of the write-ahead log in memory, so no ``-shm`` file exists, and keeps
    other programs from writing.
    """
    db = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0.0, isolation_level=None)
    try:
        db.text_factory = bytes
        for pragma in ("locking_mode=EXCLUSIVE", "synchronous=FULL", "trusted_schema=OFF", "cell_size_check=ON"):
            db.execute(f"PRAGMA {pragma}").close()
        db.execute("PRAGMA cache_size=-8192").close()  # KiB; a damaged header must not choose it
    except BaseException:
        db.close()
        raise
    return db


def create(path: Path) -> None:
    """Write an empty journal, whole and on the disk, to a path at which nothing is.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    path.touch()
    with closing(connect(path)) as db:
        db.execute(f"PRAGMA page_size={PAGE_SIZE}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("BEGIN IMMEDIATE")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={VERSION}")
        db.execute(_TABLE.decode())
        db.execute(_INDEX.decode())
        db.execute("COMMIT")
        fold(db)


def fold(db: sqlite3.Connection) -> None:
    """Move the write-ahead log into the main file; closing does it too, but says nothing when it cannot."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def add(db: sqlite3.Connection, rows: list[Row]) -> int:
    """Write rows whose keys are new; returns how many were."""
    sql = "INSERT INTO records (key, checksum, payload) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING"
    return db.executemany(sql, rows).rowcount


def examine(db: sqlite3.Connection) -> Examination:
    """Read the whole file and check all of it: schema, trees, index against table, every checksum.

    Raises:
        sqlite3.DatabaseError: The system, not the content of the file, keeps it from being read.
    """
    try:
        return _examine(db)
    except SqliteFailure as error:
        if not is_damage(error):
            raise
        return Examination(0, str(error))


def _examine(db: sqlite3.Connection) -> Examination:
    schema = db.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_master ORDER BY rootpage").fetchall()
    if schema != _SCHEMA:
        return Examination(0, "its tables are not what they were")
    verdict = db.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != b"ok":
        return Examination(0, verdict.decode(errors="replace"))
    sound = damaged = 0
    for row in db.execute("SELECT key, checksum, payload FROM records"):
        if intact(*row):
            sound += 1
        else:
            damaged += 1
    return Examination(sound, f"{damaged} records do not match their checksums" if damaged else "")


def counted(db: sqlite3.Connection) -> int:
    """How many records there are by the index, without a look at any of them.

    Raises:
        sqlite3.DatabaseError: The schema, or what is above the index's leaves, cannot be read.
    """
    count: int = db.execute("SELECT count(*) FROM records INDEXED BY records_by_key").fetchone()[0]
    return count


def is_damage(error: Exception) -> bool:
    """Whether an error comes from the content of the file, and not from the system or another program."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in _OF_THE_SYSTEM
