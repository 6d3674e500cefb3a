"""The file of a journal, as its one owner sees it. Blocking; belongs to the thread that opened it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from aurora_swarm.errors import StorageError
from aurora_swarm.journal.ownership import Ownership
from aurora_swarm.journal.refusals import (
    refuse_foreign,
    refuse_newer,
    refuse_place,
    refused,
    unopened,
    unwritten,
)
from aurora_swarm.journal.salvage import copy_aside, finish, rebuild, start_empty
from aurora_swarm.journal.schema import (
    PAGE_SIZE,
    Row,
    SqliteFailure,
    add,
    connect,
    counted,
    examine,
    fold,
    header_fault,
    intact,
    is_damage,
)
from aurora_swarm.journal.wal import damaged_frames
from aurora_swarm.ports.journal import JournalStatistics

EXAMINED_AT_ONCE = 16_000_000
"""Bytes of file and log up to which all of them are checked when a journal is opened, which takes a tenth of a second
then. What is larger is checked before the first write to it, or at the end: a run that is resumed begins at once.
"""

_KEYS_PER_QUERY = 500
_MOUNTS = Path("/proc/mounts")


class RecordStore:
    """An open journal file.

    Every record is checked when it is found. Every byte of the file has been checked before anything is written to it,
    and before it is closed; where the file is small, before the constructor returns.

    Args:
        path: The file; created when nothing is there. Symbolic links are followed.
        examined_at_once: Bytes up to which a file is small.

    Raises:
        JournalHeldError: Another run holds it.
        JournalForeignError: Something else is there, or a newer version wrote it.
        JournalError: The place cannot hold a journal.
        StorageError: It cannot be read or written.
    """

    def __init__(self, path: Path, *, examined_at_once: int = EXAMINED_AT_ONCE) -> None:
        self.path = Path(os.path.realpath(path))
        self.notes: tuple[str, ...] = ()
        self._examined_at_once = examined_at_once
        self._unexamined: tuple[int | None, Path | None] | None = None
        self._records = self._written = self._commits = self._quarantined = 0
        try:
            refuse_place(self.path, _mounts())
            if not self._beside(".rebuilt").exists():
                refuse_foreign(self.path)
            self._ownership = Ownership(self._beside(".lock"))
            try:
                self._db = self._open()
            except BaseException:
                self._ownership.release(keep=self._ownership.left is not None)
                raise
        except OSError as error:
            raise refused(self.path, error) from error
        except SqliteFailure as error:
            raise unopened(self.path, error) from error

    def find(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The payloads of the intact records among `keys`, at most 500 keys to a query.

        Raises:
            StorageError: The file cannot be read.
        """
        keys = tuple(keys)
        try:
            found = self._found(keys)
            if found is None:
                self.examine()
                found = self._found(keys)
        except SqliteFailure as error:
            raise unwritten(self.path, error) from error
        return found or {}

    def examine(self) -> None:
        """Check all of the file unless that has been done; a damaged one is replaced by what is intact of it.

        Raises:
            StorageError: It cannot be read, or what is intact cannot be saved.
        """
        if self._unexamined is None:
            return
        (left, log), self._unexamined = self._unexamined, None
        try:
            self._db = self._sound(self._db)
            self._account(left, log)
        except SqliteFailure as error:
            raise unwritten(self.path, error) from error
        except OSError as error:
            raise StorageError(str(error), path=str(self.path), remedy="free space, or check the disk") from error
        self._ownership.acknowledge(self._records)

    def append(self, rows: list[Row]) -> None:
        """Write rows in one transaction, on the disk when this returns; rows whose key is known are ignored.

        Raises:
            StorageError: Nothing of them is acknowledged.
        """
        self.examine()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            new = add(self._db, rows)
            self._db.execute("COMMIT")
        except SqliteFailure as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise unwritten(self.path, error) from error
        self._commits += 1
        self._written += new
        self._records += new
        self._ownership.acknowledge(self._records)

    def statistics(self) -> JournalStatistics:
        """What it holds and did; may be asked from any thread."""
        return JournalStatistics(
            records=self._records, written=self._written, commits=self._commits, quarantined=self._quarantined
        )

    def close(self) -> None:
        """Check what has not been checked, fold the write-ahead log into the file and let go of it."""
        try:
            self.examine()
            self._db.close()
        finally:
            # A full disk keeps the log from being folded in: then it is read again, and judged by the number.
            self._ownership.release(keep=self._beside("-wal").exists())

    def _open(self) -> sqlite3.Connection:
        finish(self.path)
        left = self._ownership.left
        if not refuse_foreign(self.path):
            left = None
            if aside := start_empty(self.path):
                self._report(1, f"there was a write-ahead log without its journal; it is kept as {aside}-wal")
        self.path.open("r+b").close()  # says more plainly than SQLite that the file may not be written
        log = self._copied_log()
        db = self._connected()
        if self._unexamined is not None:
            self._unexamined = left, log
            return db
        try:
            self._account(left, log)
            self._ownership.acknowledge(self._records)
        except BaseException:
            db.close()
            raise
        return db

    def _copied_log(self) -> Path | None:
        """A copy of the write-ahead log if it is damaged: SQLite drops what is behind the damage."""
        log = self._beside("-wal")
        damaged = log.exists() and damaged_frames(log.read_bytes(), PAGE_SIZE)
        return copy_aside(self.path, "-wal") if damaged else None

    def _account(self, left: int | None, log: Path | None) -> None:
        """Say which of the records that were once acknowledged are not here any more."""
        lost = (log is not None) if left is None else max(0, left - self._records - self._quarantined)
        if lost:
            kept = f"; a copy of them is {log}" if log else ""
            self._report(lost, f"the last writes are damaged or cut off, what was in them will be done again{kept}")
        elif log:
            log.unlink()

    def _connected(self) -> sqlite3.Connection:
        if fault := header_fault(self.path):
            return self._rebuilt(fault)
        try:
            db = connect(self.path)
            return db if self._may_wait(db) else self._sound(db)
        except SqliteFailure as error:
            if not is_damage(error):
                raise
            return self._rebuilt(str(error))

    def _sound(self, db: sqlite3.Connection) -> sqlite3.Connection:
        """The connection, or one to what could be saved, whatever of the file is damaged."""
        try:
            return self._checked(db)
        except SqliteFailure as error:
            if not is_damage(error):
                raise
            return self._rebuilt(str(error))

    def _may_wait(self, db: sqlite3.Connection) -> bool:
        """Whether the check of a file comes later: it is large, and can be read for all that is seen now."""
        size = sum(each.stat().st_size for suffix in ("", "-wal") if (each := self._beside(suffix)).exists())
        if size <= self._examined_at_once:
            return False
        try:
            refuse_newer(self.path, db.execute("PRAGMA user_version").fetchone()[0])
            self._records = counted(db)
        except SqliteFailure:
            return False
        except BaseException:
            db.close()
            raise
        self._unexamined = None, None
        return True

    def _checked(self, db: sqlite3.Connection) -> sqlite3.Connection:
        """The connection if all of the file is sound, else one to what could be saved of it."""
        try:
            examination = examine(db)
            if not examination.fault:
                refuse_newer(self.path, db.execute("PRAGMA user_version").fetchone()[0])
                # What is left of a killed run's log would later look like damage behind the writes of this one.
                fold(db)
                self._records = examination.records
                return db
        except BaseException:
            db.close()
            raise
        db.close()
        return self._rebuilt(examination.fault)

    def _rebuilt(self, fault: str) -> sqlite3.Connection:
        saved, lost, aside = rebuild(self.path)
        what = f"{lost} records were damaged and will be done again" if lost else "no record was lost"
        self._report(lost, f"damaged ({fault}); {what}, {saved} are kept; the damaged file is {aside}")
        self._records = saved
        return connect(self.path)

    def _found(self, keys: tuple[bytes, ...]) -> dict[bytes, bytes] | None:
        """The payloads of intact records; None where one is damaged and the whole file has still to be checked."""
        found: dict[bytes, bytes] = {}
        rest = iter(keys)
        try:
            while chunk := tuple(islice(rest, _KEYS_PER_QUERY)):
                damaged = self._find_chunk(chunk, found)
                if damaged and self._unexamined is not None:
                    return None
                for number in damaged:
                    self._quarantine(number)
        except SqliteFailure as error:
            if self._unexamined is None or not is_damage(error):
                raise
            return None
        return found

    def _find_chunk(self, keys: tuple[bytes, ...], found: dict[bytes, bytes]) -> list[int]:
        """Add what is intact; returns the numbers of the rows that are not."""
        marks = ",".join("?" * len(keys))
        sql = f"SELECT id, key, checksum, payload FROM records WHERE key IN ({marks})"  # noqa: S608 - only marks
        rows = self._db.execute(sql, keys).fetchall()
        found.update({row[1]: row[3] for row in rows if intact(*row[1:])})
        return [row[0] for row in rows if not intact(*row[1:])]

    def _quarantine(self, number: int) -> None:
        """Take out a record that was intact when the file was opened, so that it can be written again."""
        self._db.execute("DELETE FROM records WHERE id = ?", (number,))
        self._records -= 1
        self._report(1, f"record {number} was damaged while the journal was open, and will be done again")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _report(self, damaged: int, note: str) -> None:
        self._quarantined += damaged
        self.notes = (*self.notes, f"{self.path}: {note}")


def _mounts() -> str:
    return _MOUNTS.read_text("utf-8", "surrogateescape") if _MOUNTS.exists() else ""
