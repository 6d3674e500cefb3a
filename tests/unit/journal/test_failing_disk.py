"""A disk that refuses ends in a `StorageError` that names place and remedy, at once and ever after; nothing hangs."""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aurora_swarm.errors import StorageError
from aurora_swarm.journal import store as store_module
from aurora_swarm.journal.open import open_journal
from aurora_swarm.journal.sqlite import SqliteJournal
from aurora_swarm.journal.store import RecordStore
from aurora_swarm.ports.journal import Journal
from aurora_swarm.values.record import Record

LIMIT_BYTES = 300_000


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[], None]]:
    """Lets files grow to 300 kB and no further, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


async def fill(journal: Journal) -> tuple[set[str], list[StorageError]]:
    """Append more than fits, ten at a time; returns what was acknowledged and what was not."""
    acknowledged, errors = set(), []

    async def append(number: int) -> None:
        record = Record(f"key-{number}", b"%d" % number * 2_000)
        try:
            await journal.append(record)
            acknowledged.add(record.key)
        except StorageError as error:
            errors.append(error)

    for start in range(0, 200, 10):
        await asyncio.gather(*(append(start + i) for i in range(10)))
    return acknowledged, errors


async def test_a_full_disk_loses_nothing_that_was_acknowledged(
    tmp_path: Path, limit_file_size: Callable[[], None]
) -> None:
    path = tmp_path / "run.journal"
    journal = await open_journal(path)
    limit_file_size()
    acknowledged, errors = await fill(journal)
    assert acknowledged
    assert errors
    assert all(str(path) in str(error) and error.remedy for error in errors)
    await journal.aclose()
    again = await open_journal(path)
    assert set(await again.find(f"key-{i}" for i in range(200))) >= acknowledged
    await again.aclose()


async def test_after_a_failed_write_every_append_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await open_journal(tmp_path / "run.journal")
    tried = []

    def refuse(*_: object) -> int:
        tried.append(1)
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(store_module, "add", refuse)
    with pytest.raises(StorageError, match="disk I/O error"):
        await journal.append(Record("first", b""))
    monkeypatch.undo()
    with pytest.raises(StorageError, match="disk I/O error"):
        await journal.append(Record("second", b""))
    assert tried == [1]
    assert dict(await journal.find(["first", "second"])) == {}
    await journal.aclose()


async def test_everyone_who_waits_gets_an_error_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await open_journal(tmp_path / "run.journal")
    monkeypatch.setattr(store_module, "add", lambda *_: 1 / 0)
    errors = await asyncio.gather(*(journal.append(Record(f"{i}", b"")) for i in range(3)), return_exceptions=True)
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, StorageError) and "ZeroDivisionError" in str(error) for error in errors)
    await journal.aclose()


async def test_a_file_that_cannot_be_read_any_more_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await open_journal(tmp_path / "run.journal")
    await journal.append(Record("key", b"payload"))

    def refuse(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(store_module.RecordStore, "_find_chunk", refuse)
    with pytest.raises(StorageError, match="malformed") as caught:
        await journal.find(["key"])
    assert caught.value.remedy
    await journal.aclose()


async def test_a_record_too_large_for_the_file_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurora_swarm.journal.sqlite.MAX_RECORD_BYTES", 1_000)
    journal = await open_journal(tmp_path / "run.journal")
    with pytest.raises(StorageError, match="1,001 bytes"):
        await journal.append(Record("large", b"x" * 1_001))
    await journal.append(Record("small", b"x"))
    assert set(await journal.find(["large", "small"])) == {"small"}
    await journal.aclose()


def test_a_copy_of_a_damaged_log_that_does_not_fit_leaves_nothing_behind(
    killed_journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = killed_journal.with_name("run.journal-wal")
    log.write_bytes(log.read_bytes() + log.read_bytes()[32:1_000])

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"part of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    before = sorted(killed_journal.parent.iterdir())
    with pytest.raises(StorageError, match="no space"):
        RecordStore(killed_journal)
    assert sorted(killed_journal.parent.iterdir()) == before


async def test_what_was_damaged_is_told_to_the_holder(journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data.replace(b"payload 3", b"PAYLOAD 3"))
    opened = await SqliteJournal.open(journal)
    assert len(opened.notes) == 1
    await opened.aclose()


def test_an_event_loop_that_ended_without_closing_leaves_a_whole_journal(tmp_path: Path) -> None:
    async def forget_to_close() -> SqliteJournal:
        journal = await SqliteJournal.open(tmp_path / "run.journal")
        await journal.append(Record("key", b"payload"))
        return journal

    journal = asyncio.run(forget_to_close())
    assert journal.statistics().written == 1
    journal._writer.close()
