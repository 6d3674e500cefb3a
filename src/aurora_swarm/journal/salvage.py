"""Saves what is intact of a damaged journal, and puts files in each other's place so that no crash loses one.

Everything new is written beside the journal under another name. Renaming it to ``.rebuilt`` is the point of no return:
before it the journal is as it was, after it `finish` completes the exchange, now or when the journal is next opened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice
from pathlib import Path

from aurora_swarm.journal.schema import PAGE_SIZE, Row, SqliteFailure, add, connect, create, fold, intact

_ROWS_AT_A_TIME = 500
_LEAST_ROW_BYTES = 64
# Not `id`: a damaged schema may have lost what makes it another name of the rowid.
_SELECT = "SELECT rowid, key, checksum, payload FROM records"
_COMPANIONS = ("", "-wal", "-journal", "-shm")


def start_empty(path: Path) -> Path | None:
    """Put an empty journal in the place of nothing or of an empty file.

    Returns:
        Where a write-ahead log without its journal was put, or None.
    """
    fresh = _beside(path, ".rebuilding")
    _remove(fresh)
    create(fresh)
    _replace(fresh, _beside(path, ".rebuilt"))
    return finish(path)


def rebuild(path: Path) -> tuple[int, int, Path]:
    """Put a journal with the intact records of a damaged one in its place.

    Returns:
        How many records were saved, how many were lost at least, and where the damaged file is now.
    """
    fresh, copy = _beside(path, ".rebuilding"), _beside(path, ".salvage")
    try:
        saved, lost = _rescue(path, copy, fresh)
        shutil.copymode(path, fresh)
        _replace(fresh, _beside(path, ".rebuilt"))
    finally:  # on a full disk, what was begun only takes more of it
        for scratch in (fresh, copy):
            _remove(scratch)
    return saved, lost, finish(path) or path


def finish(path: Path) -> Path | None:
    """Complete an exchange that has passed its point of no return, if there is one, and clear away one that has not.

    Returns:
        Where the file that was at the path is now; None if there was none.
    """
    rebuilt = _beside(path, ".rebuilt")
    for scratch in (_beside(path, ".rebuilding"), _beside(path, ".salvage")):
        _remove(scratch)
    if not rebuilt.exists():
        return None
    aside = put_aside(path)
    _replace(rebuilt, path)
    return aside


def put_aside(path: Path) -> Path | None:
    """Rename a file and its companions to the first free ``.damaged-N``; empty ones are removed."""
    aside = next(free for n in count(1) if not any(_beside(free := _aside(path, n), c).exists() for c in _COMPANIONS))
    moved = False
    # The log goes first: without its journal it is not read, while the journal without it would be read as if whole.
    for companion in reversed(_COMPANIONS):
        file = _beside(path, companion)
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_size:
                _replace(file, _beside(aside, companion))
                moved = True
            else:
                file.unlink()
    return aside if moved else None


def copy_aside(path: Path, companion: str) -> Path:
    """Copy one companion of a journal to the first free ``.damaged-N``."""
    target = next(t for n in count(1) if not (t := _beside(_aside(path, n), companion)).exists())
    try:
        shutil.copyfile(_beside(path, companion), target)
    except BaseException:  # on a full disk, what was begun only takes more of it
        target.unlink(missing_ok=True)
        raise
    return target


def _rescue(path: Path, copy: Path, fresh: Path) -> tuple[int, int]:
    """Write what is intact to a fresh journal; returns how many records were saved, and lost at least."""
    _remove(fresh)
    create(fresh)
    first_page = fresh.read_bytes()[:PAGE_SIZE]
    with closing(connect(fresh)) as target:
        counts = [_save(path, copy, b"", target), _save(path, copy, first_page, target)]
        saved: int = target.execute("SELECT count(*) FROM records").fetchone()[0]
        fold(target)
    known = [n for n in counts if n is not None]
    # Where nothing can be counted, the damage may have cost nothing; one is said rather than none.
    return saved, max(0, max(known) - saved) if known else 1


def _save(path: Path, copy: Path, first_page: bytes, target: sqlite3.Connection) -> int | None:
    """Take the intact rows out of a copy; returns how many its index counts, None if that cannot be read."""
    _copy(path, copy, first_page)
    try:
        source = connect(copy)
    except SqliteFailure:
        return None
    with closing(source):
        most = copy.stat().st_size // _LEAST_ROW_BYTES
        rows = _intact_rows(source, most)
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            target.execute("BEGIN IMMEDIATE")
            add(target, batch)
            target.execute("COMMIT")
        return _counted(source, most)


def _copy(path: Path, copy: Path, first_page: bytes) -> None:
    """Copy a journal and its log, with another first page if one is given."""
    _remove(copy)
    shutil.copyfile(path, copy)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(_beside(path, "-wal"), _beside(copy, "-wal"))
    if first_page:
        pages = max(1, copy.stat().st_size // PAGE_SIZE)
        with copy.open("r+b") as file:
            file.write(first_page[:28] + pages.to_bytes(4, "big") + first_page[32:])


def _intact_rows(source: sqlite3.Connection, most: int) -> Iterator[Row]:
    """The rows that match their checksums: from both ends up to the damage, then one by one through it."""
    last, first = 0, 0
    for row in _until_damage(source, f"{_SELECT} ORDER BY rowid"):
        last = row[0]
        yield from _if_intact(row)
    for row in _until_damage(source, f"{_SELECT} WHERE rowid > {last} ORDER BY rowid DESC"):
        first = row[0]
        yield from _if_intact(row)
    for number in range(last + 1, min(first, last + most)):
        for row in _until_damage(source, f"{_SELECT} WHERE rowid = {number}"):
            yield from _if_intact(row)


def _until_damage(source: sqlite3.Connection, query: str) -> Iterator[tuple[int, bytes, int, bytes]]:
    with contextlib.suppress(*SqliteFailure):
        yield from source.execute(query)


def _if_intact(row: tuple[int, bytes, int, bytes]) -> Iterator[Row]:
    if intact(*row[1:]):
        yield row[1:]


def _counted(source: sqlite3.Connection, most: int) -> int | None:
    """How many records there should be: the entries of the index, else the number of the last row."""
    for query in ("SELECT count(*) FROM records INDEXED BY records_by_key", "SELECT max(rowid) FROM records"):
        with contextlib.suppress(*SqliteFailure):
            number = source.execute(query).fetchone()[0] or 0
            if number <= most:
                return int(number)
    return None


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _aside(path: Path, number: int) -> Path:
    return _beside(path, f".damaged-{number}")


def _remove(path: Path) -> None:
    for companion in _COMPANIONS:
        _beside(path, companion).unlink(missing_ok=True)


def _replace(old: Path, new: Path) -> None:
    """Rename, and make the rename survive a power cut."""
    old.replace(new)
    folder = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
