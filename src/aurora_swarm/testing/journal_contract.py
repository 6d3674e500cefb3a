"""What every `aurora_swarm.ports.journal.Journal` must do, as tests to inherit. Needs pytest and pytest-asyncio.

Inherit `JournalContract`, give it two fixtures, and let pytest find it::

    class TestMyJournal(JournalContract):
        @pytest.fixture
        def journal_factory(self, tmp_path):
            return lambda: open_my_journal(tmp_path / "run.journal")  # the same one at every call of a test

        @pytest.fixture
        def damage(self, tmp_path):
            return lambda key: ...  # changes the stored payload of a key, while the journal is closed
"""

# ruff: noqa: D102 - a test says what it shows in its name

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable

import pytest

from aurora_swarm.errors import JournalHeldError, StorageError
from aurora_swarm.ports.journal import Journal
from aurora_swarm.values.record import Record

JournalFactory = Callable[[], Awaitable[Journal]]
Damage = Callable[[str], None]

ODD_RECORDS = (
    Record("empty payload", b""),
    Record("every byte", bytes(range(256))),
    Record("large", b"0123456789" * 100_000),
    Record("", b"an empty key"),
    Record("' OR 1=1 --", b"a quote"),
    Record("sch\u00f6n \u65e5\u672c \U0001f41d", b"text outside of ASCII"),
    Record("nul\0nul", b"a NUL"),
    Record("k" * 5_000, b"a long key"),
)


def records(n: int, prefix: str = "key") -> list[Record]:
    """Records with keys and payloads of their own."""
    return [Record(f"{prefix}-{i}", f"payload of {prefix} {i}".encode()) for i in range(n)]


class JournalContract:
    """The contract of `Journal`."""

    async def test_finds_what_was_appended(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        await journal.append(*records(3))
        assert dict(await journal.find(["key-0", "key-2", "unknown"])) == {
            "key-0": records(3)[0],
            "key-2": records(3)[2],
        }
        await journal.aclose()

    async def test_finds_nothing_when_nothing_is_asked(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        assert dict(await journal.find([])) == {}
        await journal.aclose()

    async def test_finds_what_an_earlier_owner_appended(self, journal_factory: JournalFactory) -> None:
        first = await journal_factory()
        await first.append(*records(3))
        await first.aclose()
        second = await journal_factory()
        assert list((await second.find(["key-1"])).values()) == [records(3)[1]]
        await second.aclose()

    async def test_finds_more_keys_than_one_query_takes(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        many = records(1_201)
        await journal.append(*many)
        assert list((await journal.find(r.key for r in many)).values()) == many
        await journal.aclose()

    @pytest.mark.parametrize("record", ODD_RECORDS, ids=lambda record: ascii(record.key[:14]))
    async def test_gives_back_exactly_what_it_was_given(self, journal_factory: JournalFactory, record: Record) -> None:
        journal = await journal_factory()
        await journal.append(Record("other", b"other"), record)
        assert dict(await journal.find([record.key])) == {record.key: record}
        await journal.aclose()

    async def test_the_first_write_of_a_key_wins(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        await journal.append(Record("key", b"first"))
        await journal.append(Record("key", b"second"), Record("new", b"new"))
        assert {k: r.payload for k, r in (await journal.find(["key", "new"])).items()} == {
            "key": b"first",
            "new": b"new",
        }
        await journal.aclose()

    async def test_the_first_write_of_a_key_wins_within_one_append(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        await journal.append(Record("key", b"first"), Record("key", b"second"))
        assert (await journal.find(["key"]))["key"].payload == b"first"
        await journal.aclose()

    async def test_concurrent_appends_share_commits(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        await asyncio.gather(*(journal.append(record) for record in records(200)))
        done = journal.statistics()
        assert done.written == 200
        assert done.commits <= 20
        await journal.aclose()

    async def test_counts_what_it_holds_and_what_it_wrote(self, journal_factory: JournalFactory) -> None:
        first = await journal_factory()
        await first.append(*records(3))
        await first.aclose()
        second = await journal_factory()
        await second.append(Record("new", b""), Record("key-0", b"known already"))
        done = second.statistics()
        assert (done.records, done.written, done.commits, done.quarantined) == (4, 1, 1, 0)
        await second.aclose()

    async def test_a_cancelled_append_is_written_whole_or_not_at_all(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        groups = [records(5, f"group{i}") for i in range(60)]
        tasks = [asyncio.create_task(journal.append(*group)) for group in groups]
        dice = random.Random(7)  # noqa: S311 - which tasks are cancelled
        for task in dice.sample(tasks, 40):
            await asyncio.sleep(dice.choice((0, 0, 0.001)))
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await journal.aclose()
        again = await journal_factory()
        for group, end in zip(groups, ended, strict=True):
            found = await again.find(record.key for record in group)
            assert len(found) == 5 if end is None else len(found) in {0, 5}
        await again.aclose()

    async def test_a_held_journal_is_refused_and_the_holder_named(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        with pytest.raises(JournalHeldError, match=str(os.getpid())) as caught:
            await journal_factory()
        assert caught.value.remedy
        await journal.append(Record("key", b"the holder is not disturbed"))
        await journal.aclose()

    async def test_may_be_opened_again_once_closed(self, journal_factory: JournalFactory) -> None:
        for _ in range(3):
            await (await journal_factory()).aclose()

    async def test_closing_writes_what_is_pending(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        appends = [asyncio.create_task(journal.append(record)) for record in records(50)]
        await asyncio.sleep(0)
        await journal.aclose()
        await asyncio.gather(*appends)
        again = await journal_factory()
        assert len(await again.find(r.key for r in records(50))) == 50
        await again.aclose()

    async def test_may_be_closed_twice(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        await asyncio.gather(journal.aclose(), journal.aclose())
        await journal.aclose()

    async def test_refuses_to_append_once_closed(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        await journal.aclose()
        with pytest.raises(StorageError):
            await journal.append(Record("key", b"payload"))

    async def test_a_cancelled_close_lets_go_of_it_all_the_same(self, journal_factory: JournalFactory) -> None:
        journal = await journal_factory()
        appends = [asyncio.create_task(journal.append(record)) for record in records(50)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(journal.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.gather(closing, *appends, return_exceptions=True)
        await journal.aclose()
        again = await journal_factory()
        assert len(await again.find(r.key for r in records(50))) == 50
        await again.aclose()

    async def test_a_cancelled_opening_lets_go_of_it(self, journal_factory: JournalFactory) -> None:
        opening = asyncio.ensure_future(journal_factory())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await (await journal_factory()).aclose()

    async def test_a_damaged_record_is_counted_and_never_returned(
        self, journal_factory: JournalFactory, damage: Damage
    ) -> None:
        await self._append_three_and_damage_the_second(journal_factory, damage)
        journal = await journal_factory()
        found = await journal.find(record.key for record in records(3))
        assert sorted(found) == ["key-0", "key-2"]
        assert (journal.statistics().quarantined, journal.statistics().records) == (1, 2)
        await journal.aclose()

    async def test_a_damaged_record_may_be_written_again(self, journal_factory: JournalFactory, damage: Damage) -> None:
        await self._append_three_and_damage_the_second(journal_factory, damage)
        journal = await journal_factory()
        await journal.append(Record("key-1", b"done again"))
        assert (await journal.find(["key-1"]))["key-1"].payload == b"done again"
        await journal.aclose()

    async def _append_three_and_damage_the_second(self, journal_factory: JournalFactory, damage: Damage) -> None:
        journal = await journal_factory()
        await journal.append(*records(3))
        await journal.aclose()
        damage("key-1")
