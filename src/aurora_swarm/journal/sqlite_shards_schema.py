"""The file that several processes of one machine share: what it looks like, and how one is opened.

A file is a SQLite database with an application id of its own; it may hold several runs. The tables are made in one
transaction before the write-ahead log is turned on, so that a process that is killed leaves nothing half made.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from aurora_swarm.errors import JournalForeignError
from aurora_swarm.journal.refusals import refuse_place
from aurora_swarm.journal.schema import MAGIC

APPLICATION_ID = 0x41537773
VERSION = 1

_T = TypeVar("_T")
_MOUNTS = Path("/proc/mounts")
_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.01

_TABLES = """
CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 0), boot TEXT NOT NULL);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, plan BLOB NOT NULL,
  whole INTEGER NOT NULL DEFAULT 0, admitted INTEGER NOT NULL DEFAULT 0, finished INTEGER NOT NULL DEFAULT 0);
CREATE TABLE shards (
  run INTEGER NOT NULL, shard INTEGER NOT NULL, epoch INTEGER NOT NULL DEFAULT 0, owner BLOB NOT NULL DEFAULT x'',
  until REAL NOT NULL DEFAULT 0, unfinished INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (run, shard)) WITHOUT ROWID;
CREATE TABLE jobs (
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL, shard INTEGER NOT NULL, place INTEGER NOT NULL,
  begun INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0,
  key BLOB NOT NULL, payload BLOB NOT NULL);
CREATE UNIQUE INDEX jobs_by_key ON jobs (run, key);
CREATE INDEX jobs_unfinished ON jobs (run, shard) WHERE done = 0;
CREATE INDEX jobs_begun ON jobs (run, shard) WHERE begun = 1 AND done = 0;
CREATE TABLE turns (job INTEGER NOT NULL, version INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE UNIQUE INDEX turns_by_job ON turns (job, version);
CREATE TABLE results (id INTEGER PRIMARY KEY, run INTEGER NOT NULL, job INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE INDEX results_by_run ON results (run);
CREATE TABLE shares (
  run INTEGER NOT NULL, resource BLOB NOT NULL, owner BLOB NOT NULL, want INTEGER NOT NULL, share INTEGER NOT NULL,
  until REAL NOT NULL, PRIMARY KEY (run, resource, owner)) WITHOUT ROWID;
CREATE TABLE answers (
  run INTEGER NOT NULL, key BLOB NOT NULL, owner BLOB NOT NULL, until REAL, payload BLOB);
CREATE UNIQUE INDEX answers_by_key ON answers (run, key);
"""


def now() -> float:
    """Seconds on the clock that all processes of this machine share; it goes on in sleep and is never set."""
    return time.clock_gettime(_CLOCK)


def open_file(path: Path, patience_s: float) -> sqlite3.Connection:
    """Open a file, or make it; any number of processes may do so at once.

    Args:
        path: Absolute, without symbolic links.
        patience_s: Seconds to wait for others that write.

    Raises:
        JournalError: The place cannot hold one, such as a network file system.
        JournalForeignError: Something else is there, or a newer version wrote it; it is left as it was.
        OSError: The system does not let us.
        sqlite3.Error: It cannot be read or written.
    """
    refuse_place(path, _MOUNTS.read_text("utf-8", "surrogateescape") if _MOUNTS.exists() else "")
    _refuse_foreign(path)
    db = sqlite3.connect(f"{path.as_uri()}?mode=rwc", uri=True, timeout=0.0, isolation_level=None)
    try:
        # Any of them may read the file, and find that another process is making it.
        patiently(patience_s, lambda: _set(db, "trusted_schema=OFF", "cell_size_check=ON", "cache_size=-16384"))
        patiently(patience_s, lambda: _make(db))
        patiently(patience_s, lambda: _set(db, "journal_mode=WAL", "synchronous=FULL"))
        patiently(patience_s, lambda: _begin_clock(db))
    except BaseException:
        db.close()
        raise
    return db


def patiently(patience_s: float, do: Callable[[], _T]) -> _T:
    """Do something as soon as no other process keeps us from it.

    SQLite's own waiting sleeps up to 100 ms at a time; several processes that write all the time would starve.

    Raises:
        sqlite3.OperationalError: Another one was in the way for all of `patience_s`.
    """
    end, pause_s = now() + patience_s, _FIRST_PAUSE_S
    while True:
        try:
            return do()
        except sqlite3.OperationalError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or now() >= end:
                raise
        time.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 - spreads those who wait
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _refuse_foreign(path: Path) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if not header:
        return
    if not header.startswith(MAGIC) or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        what = "another program's database, or a journal of one process" if header.startswith(MAGIC) else "no store"
        raise JournalForeignError(f"{path}: {what}; left as it was", remedy="name another file, or move this one away")
    _refuse_newer(path, int.from_bytes(header[60:64], "big"))


def _refuse_newer(path: Path, version: int) -> None:
    if version > VERSION:
        raise JournalForeignError(
            f"{path}: written in format {version}, this version knows {VERSION}; left as it was",
            remedy="upgrade aurora-swarm, or name another file",
        )


def _set(db: sqlite3.Connection, *pragmas: str) -> None:
    for pragma in pragmas:
        db.execute(f"PRAGMA {pragma}").fetchall()


def _make(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA application_id").fetchone()[0] == 0:
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={VERSION}")
            for statement in _TABLES.split(";\n"):
                db.execute(statement)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _begin_clock(db: sqlite3.Connection) -> None:
    """Leases of before a restart of the machine are over: its clock began anew."""
    boot = _BOOT.read_text("ascii").strip() if _BOOT.exists() else ""
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("SELECT boot FROM clock").fetchall() != [(boot,)]:
            db.execute("INSERT OR REPLACE INTO clock VALUES (0, ?)", (boot,))
            db.execute("UPDATE shards SET until = 0")
            db.execute("DELETE FROM shares")
            db.execute("DELETE FROM answers WHERE until IS NOT NULL")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
