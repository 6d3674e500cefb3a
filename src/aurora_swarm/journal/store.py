"""The file of a journal, as its one owner sees it. Blocking; belongs to the thread that opened it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

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
    examine,
    fold,
    header_fault,
    intact,
    is_damage,
)
from aurora_swarm.journal.wal import damaged_frames
from aurora_swarm.ports.journal import JournalStatistics

_KEYS_PER_QUERY = 500
_MOUNTS = Path("/proc/mounts")


class RecordStore:
    """An open journal file. Every byte of it has been checked when the constructor returns.

    Args:
        path: The file; created when nothing is there. Symbolic links are followed.

    Raises:
        JournalHeldError: Another run holds it.
        JournalForeignError: Something else is there, or a newer version wrote it.
        JournalError: The place cannot hold a journal.
        StorageError: It cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        self.notes: tuple[str, ...] = ()
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
        found: dict[bytes, bytes] = {}
        rest = iter(keys)
        try:
            while chunk := tuple(islice(rest, _KEYS_PER_QUERY)):
                self._find_chunk(chunk, found)
        except SqliteFailure as error:
            raise unwritten(self.path, error) from error
        return found

    def append(self, rows: list[Row]) -> None:
        """Write rows in one transaction, on the disk when this returns; rows whose key is known are ignored.

        Raises:
            StorageError: Nothing of them is acknowledged.
        """
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
        """Fold the write-ahead log into the file and let go of it."""
        try:
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
            return self._checked(connect(self.path))
        except SqliteFailure as error:
            if not is_damage(error):
                raise
            return self._rebuilt(str(error))

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

    def _find_chunk(self, keys: tuple[bytes, ...], found: dict[bytes, bytes]) -> None:
        marks = ",".join("?" * len(keys))
        sql = f"SELECT id, key, checksum, payload FROM records WHERE key IN ({marks})"  # noqa: S608 - only marks
        for number, *row in self._db.execute(sql, keys).fetchall():
            if intact(*row):
                found[row[0]] = row[2]
            else:
                self._quarantine(number)

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
