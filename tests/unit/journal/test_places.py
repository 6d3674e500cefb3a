"""What cannot hold a journal is refused with place and remedy, and left as it was."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from aurora_swarm.errors import JournalError, JournalForeignError, JournalHeldError, StorageError
from aurora_swarm.journal import store as store_module
from aurora_swarm.journal.ownership import Ownership
from aurora_swarm.journal.store import RecordStore


def refusal(path: Path, kind: type[JournalError]) -> JournalError:
    before = path.read_bytes() if path.is_file() and os.access(path, os.R_OK, effective_ids=True) else b""
    with pytest.raises(kind) as caught:
        RecordStore(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    assert (path.read_bytes() if before else b"") == before
    assert not path.with_name(path.name + ".lock").exists()
    return caught.value


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert "folder" in str(refusal(tmp_path, JournalError))


def test_a_device_is_refused() -> None:
    refusal(Path("/dev/null"), JournalError)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "missing" / "run.journal", JournalError)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError):
        RecordStore(tmp_path / ("x" * 255))


def test_a_folder_that_may_not_be_written_is_refused(unprivileged_folder: Path) -> None:
    unprivileged_folder.chmod(0o500)
    refusal(unprivileged_folder / "run.journal", JournalError)


def test_a_file_that_may_not_be_read_is_refused(unprivileged_folder: Path) -> None:
    path = unprivileged_folder / "run.journal"
    RecordStore(path).close()
    path.chmod(0)
    refusal(path, JournalError)


def test_a_journal_that_may_not_be_written_is_refused(unprivileged_folder: Path) -> None:
    path = unprivileged_folder / "run.journal"
    RecordStore(path).close()
    path.chmod(0o400)
    refusal(path, JournalError)


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("server:/ / nfs4 rw 0 0\n")
    monkeypatch.setattr(store_module, "_MOUNTS", mounts)
    assert "nfs4" in str(refusal(tmp_path / "run.journal", JournalError))


@pytest.mark.parametrize(
    "content",
    [b'{"index": 0}\n', b"\x00" * 5_000, b"x", b"SQLite format 3\x00", b"SQLite format 3\x00" + b"\x00" * 4_080],
    ids=["a results file", "zeros", "one byte", "sixteen bytes", "no application"],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.journal"
    path.write_bytes(content)
    refusal(path, JournalForeignError)


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE records (key, payload)")
    refusal(path, JournalForeignError)


def test_a_newer_format_is_refused(journal: Path) -> None:
    data = bytearray(journal.read_bytes())
    data[60:64] = struct.pack(">I", 2)
    journal.write_bytes(data)
    assert "upgrade" in refusal(journal, JournalForeignError).remedy


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "run.journal"
    path.touch()
    store = RecordStore(path)
    assert (store.notes, store.statistics().records) == ((), 0)
    store.close()


def test_a_journal_in_use_by_another_program_is_refused(journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db:
        db.execute("BEGIN IMMEDIATE")
        refusal(journal, JournalHeldError)


def test_the_holder_is_found_behind_a_symbolic_link(journal: Path) -> None:
    link = journal.with_name("link")
    link.symlink_to(journal)
    store = RecordStore(link)
    with pytest.raises(JournalHeldError):
        RecordStore(journal)
    store.close()


def test_a_lock_file_without_a_living_holder_does_not_count(journal: Path) -> None:
    journal.with_name("run.journal.lock").write_text("process 1 on elsewhere since long ago\n")
    RecordStore(journal).close()


def test_the_holder_is_named_with_process_host_and_time(tmp_path: Path) -> None:
    lock = tmp_path / "run.journal.lock"
    held = Ownership(lock)
    with pytest.raises(JournalHeldError, match=rf"process {os.getpid()} on \S+ since \d{{4}}-\d\d-\d\dT"):
        Ownership(lock)
    held.release()
    held.release()
    Ownership(lock).release()


def test_a_closed_journal_is_one_file(journal: Path) -> None:
    assert [file.name for file in journal.parent.iterdir()] == ["run.journal"]


def test_a_disk_without_space_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="no space") as caught:
        RecordStore(tmp_path / "run.journal")
    assert caught.value.remedy
