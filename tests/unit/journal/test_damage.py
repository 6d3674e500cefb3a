"""Whatever byte of a journal changes: the right payload, or none and it is counted, or an error that explains."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aurora_swarm.errors import JournalError
from aurora_swarm.journal.schema import PAGE_SIZE, Row, checksum
from aurora_swarm.journal.store import RecordStore
from aurora_swarm.journal.wal import damaged_frames

Payloads = dict[bytes, bytes]
Damaged = Callable[[bytes], Iterator[tuple[str, bytes]]]


def flips(step: int) -> Damaged:
    """Every `step`-th byte changed, once in one bit and once in all."""

    def changed(data: bytes) -> Iterator[tuple[str, bytes]]:
        for place in range(0, len(data), step):
            for mask in (1, 255):
                yield f"byte {place} ^ {mask}", data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]

    return changed


def cuts(step: int) -> Damaged:
    """The file cut off after every `step`-th byte."""

    def cut(data: bytes) -> Iterator[tuple[str, bytes]]:
        for length in range(0, len(data), step):
            yield f"cut after {length}", data[:length]

    return cut


def row(key: bytes, payload: bytes) -> Row:
    return key, checksum(key, payload), payload


def complaint(path: Path, payloads: Payloads, *, may_lose: bool, later: bool) -> str:
    """What is wrong with how a damaged journal is treated; empty when nothing is."""
    try:
        store = RecordStore(path, examined_at_once=-1 if later else 1_000_000)
    except JournalError as error:
        return "" if str(path) in str(error) and error.remedy else f"does not explain: {error!r}"
    read = store.find(payloads)
    if any(read[key] != payloads[key] for key in read):
        return "a wrong payload before the examination"
    store.examine()
    found = store.find(payloads)
    done = store.statistics()
    if any(found[key] != payloads[key] for key in found):
        return "a wrong payload"
    if len(found) < len(payloads) and not (may_lose or (done.quarantined and store.notes)):
        return "a loss that nobody is told of"
    if done.records != len(found):
        return f"{done.records} records are said to be there, {len(found)} are"
    store.append([row(*item) for item in payloads.items()])
    healed = store.find(payloads)
    store.close()
    return "" if healed == payloads else "what was lost cannot be written again"


def complaints(
    journal: Path, companion: str, damaged: Damaged, payloads: Payloads, *, may_lose: bool, later: bool = False
) -> list[str]:
    original = {c: f.read_bytes() for c in ("", "-wal", ".lock") if (f := journal.with_name(journal.name + c)).exists()}
    folder = journal.with_name("damaged")
    said, tried = [], 0
    for what, data in damaged(original[companion]):
        folder.mkdir()
        for name, content in {**original, companion: data}.items():
            (folder / f"run.journal{name}").write_bytes(content)
        if problem := complaint(folder / "run.journal", payloads, may_lose=may_lose, later=later):
            said.append(f"{what}: {problem}")
        shutil.rmtree(folder)
        tried += 1
    assert tried > 10
    return said


STEPS = [pytest.param(149, id="some"), pytest.param(1, id="all", marks=[pytest.mark.chaos, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "later"])
@pytest.mark.parametrize("step", STEPS)
class TestDamage:
    def test_no_changed_byte_goes_unseen(self, journal: Path, payloads: Payloads, step: int, later: bool) -> None:
        assert complaints(journal, "", flips(step), payloads, may_lose=False, later=later) == []

    def test_no_changed_byte_of_the_log_goes_unseen(
        self, killed_journal: Path, payloads: Payloads, step: int, later: bool
    ) -> None:
        assert complaints(killed_journal, "-wal", flips(step * 5), payloads, may_lose=False, later=later) == []

    def test_no_changed_byte_beneath_a_log_goes_unseen(
        self, killed_journal: Path, payloads: Payloads, step: int, later: bool
    ) -> None:
        assert complaints(killed_journal, "", flips(step * 3), payloads, may_lose=False, later=later) == []

    def test_no_cut_of_the_file_goes_unseen(self, journal: Path, payloads: Payloads, step: int, later: bool) -> None:
        # A file of no bytes is a new journal: nothing is left that could tell.
        assert [
            c
            for c in complaints(journal, "", cuts(step * 3), payloads, may_lose=False, later=later)
            if "after 0:" not in c
        ] == []

    def test_no_cut_of_the_log_goes_unseen(
        self, killed_journal: Path, payloads: Payloads, step: int, later: bool
    ) -> None:
        assert complaints(killed_journal, "-wal", cuts(step * 7), payloads, may_lose=False, later=later) == []

    def test_after_a_power_cut_no_changed_byte_of_the_log_goes_unseen(
        self, killed_journal: Path, payloads: Payloads, step: int, later: bool
    ) -> None:
        Path(f"{killed_journal}.lock").unlink()
        assert complaints(killed_journal, "-wal", flips(step * 7), payloads, may_lose=False, later=later) == []

    def test_after_a_power_cut_a_log_that_was_cut_gives_nothing_wrong(
        self, killed_journal: Path, payloads: Payloads, step: int, later: bool
    ) -> None:
        # A log that ends with a commit is whole: nothing says that it was once longer.
        Path(f"{killed_journal}.lock").unlink()
        assert complaints(killed_journal, "-wal", cuts(step * 7), payloads, may_lose=True, later=later) == []


def overwrite(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def test_the_damaged_file_is_put_aside_and_the_user_told(journal: Path, payloads: Payloads) -> None:
    overwrite(journal, journal.read_bytes().index(b"payload 3"), b"PAYLOAD 3")
    damaged = journal.read_bytes()
    store = RecordStore(journal)
    store.close()
    aside = journal.with_name("run.journal.damaged-1")
    assert aside.read_bytes() == damaged
    assert sorted(file.name for file in journal.parent.iterdir()) == [journal.name, aside.name]
    (note,) = store.notes
    assert str(aside) in note
    assert "1 records were damaged" in note
    assert "9 are kept" in note


def test_a_second_damaged_file_does_not_replace_the_first(journal: Path) -> None:
    journal.with_name("run.journal.damaged-1").write_text("the first")
    overwrite(journal, journal.read_bytes().index(b"payload 3"), b"PAYLOAD 3")
    RecordStore(journal).close()
    assert journal.with_name("run.journal.damaged-1").read_text() == "the first"
    assert journal.with_name("run.journal.damaged-2").exists()


def test_a_rebuilt_journal_is_whole(journal: Path) -> None:
    overwrite(journal, journal.read_bytes().index(b"payload 3"), b"PAYLOAD 3")
    RecordStore(journal).close()
    store = RecordStore(journal)
    assert (store.notes, store.statistics().quarantined, store.statistics().records) == ((), 0, 9)
    store.close()


def test_all_records_outlive_the_loss_of_the_first_page(journal: Path, payloads: Payloads) -> None:
    header = journal.read_bytes()[:100]
    overwrite(journal, 0, header + b"\xaa" * (PAGE_SIZE - 100))
    store = RecordStore(journal)
    assert store.find(payloads) == payloads
    store.close()


@pytest.mark.parametrize("page", [20, 45])
def test_records_before_and_behind_a_lost_page_are_kept(tmp_path: Path, page: int) -> None:
    path = tmp_path / "run.journal"
    many = {b"%032d" % i: b"payload %d " % i * 30 for i in range(600)}
    store = RecordStore(path)
    store.append([row(*item) for item in many.items()])
    store.close()
    for place in (page, page + 5):
        overwrite(path, place * PAGE_SIZE, b"\xaa" * PAGE_SIZE)
    store = RecordStore(path)
    found = store.find(many)
    assert 500 < len(found) < 600
    assert all(many[key] == found[key] for key in found)
    assert store.statistics().quarantined == 600 - len(found)
    store.close()


@pytest.mark.parametrize("present", [{".rebuilt"}, {".rebuilt", ""}, {".rebuilt", "", "-wal"}], ids=len)
def test_an_exchange_that_was_cut_off_is_completed(
    journal: Path, killed_journal: Path, payloads: Payloads, present: set[str]
) -> None:
    rebuilt = journal.with_name("run.journal.rebuilt")
    log = journal.with_name("run.journal-wal")
    new = journal.with_name("new")
    store = RecordStore(new)
    store.append([row(b"saved", b"payload")])
    store.close()
    new.rename(rebuilt)
    for companion, file in (("", journal), ("-wal", log)):
        if companion not in present:
            file.unlink()
    store = RecordStore(journal)
    assert store.find([b"saved", *payloads]) == {b"saved": b"payload"}
    store.close()
    assert not rebuilt.exists()


def test_a_log_without_its_journal_is_not_read(killed_journal: Path, payloads: Payloads) -> None:
    killed_journal.unlink()
    store = RecordStore(killed_journal)
    assert store.find(payloads) == {}
    assert store.statistics().quarantined == 1
    assert "-wal" in store.notes[0]
    store.close()


def test_what_a_killed_process_left_is_whole(killed_journal: Path, payloads: Payloads) -> None:
    store = RecordStore(killed_journal)
    assert store.find(payloads) == payloads
    assert (store.notes, store.statistics().quarantined) == ((), 0)
    store.close()


def test_a_record_that_rots_while_the_journal_is_open_can_be_written_again(journal: Path) -> None:
    store = RecordStore(journal)
    store._db.execute("UPDATE records SET payload = x'00' WHERE key = ?", (b"key3",))
    assert store.find([b"key3"]) == {}
    assert (store.statistics().quarantined, store.statistics().records, len(store.notes)) == (1, 9, 1)
    store.append([row(b"key3", b"again")])
    assert store.find([b"key3"]) == {b"key3": b"again"}
    store.close()


def test_a_write_that_a_kill_cut_off_is_no_loss(killed_journal: Path, payloads: Payloads) -> None:
    with killed_journal.with_name("run.journal-wal").open("ab") as log:
        log.write(killed_journal.with_name("run.journal-wal").read_bytes()[32 : 32 + 24 + 100])
    store = RecordStore(killed_journal)
    assert store.find(payloads) == payloads
    assert (store.notes, store.statistics().quarantined) == ((), 0)
    store.close()
    assert [file.name for file in killed_journal.parent.iterdir()] == ["run.journal"]


def test_a_log_of_sqlite_is_whole(killed_journal: Path) -> None:
    assert damaged_frames(killed_journal.with_name("run.journal-wal").read_bytes(), PAGE_SIZE) == 0


def test_frames_of_an_earlier_generation_do_not_count(killed_journal: Path) -> None:
    log = killed_journal.with_name("run.journal-wal").read_bytes()
    old = bytearray(log[-PAGE_SIZE - 24 :])
    old[8:16] = b"old salt"
    assert damaged_frames(log + bytes(old) * 3, PAGE_SIZE) == 0


def test_a_log_of_another_page_size_is_damaged(killed_journal: Path) -> None:
    assert damaged_frames(killed_journal.with_name("run.journal-wal").read_bytes(), 512) == 1
