"""What a batch keeps of an agent is found again, in order and up to the first gap; nothing else is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from aurora_swarm.agents.driver import Recorded, ToolReport
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.ledger import Ledger, Page
from aurora_swarm.batch.stored import decode_heard, encode_heard
from aurora_swarm.errors import InvalidOutputError, StorageError
from aurora_swarm.journal.null import NullJournal
from aurora_swarm.journal.open import open_journal
from aurora_swarm.ports.journal import Journal
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.record import Record
from aurora_swarm.values.reply import Reply, Usage

KEY = "0123456789abcdef" * 2


class Out(BaseModel):
    word: str


def result_of(word: str, *, index: int = 3, key: str = KEY) -> AgentResult[Out]:
    return AgentResult(
        index=index,
        key=key,
        ok=True,
        output=Out(word=word),
        error=None,
        text=f'{{"word": "{word}"}}',
        attempts=4,
        turns=3,
        usage=Usage(10, 20, 5),
        tool_calls=2,
        tools_executed=1,
        repaired=True,
        latency_s=1.5,
        endpoint="http://a:1",
        ttft_s=0.25,
        in_doubt=1,
    )


STEPS: list[Recorded] = [
    Reply("first", "tool_calls", Usage(1, 2, 3), "m", 0.5, (ToolCall("1", "look", {"a": [1, None, "x"]}),)),
    [ToolReport("the tool's answer", executed=True)],
    Reply("second", tool_calls=(ToolCall("2", "look", {}), ToolCall("3", "look", {}))),
    [ToolReport("one", executed=False), ToolReport("two", executed=False, in_doubt=True)],
]


class Counting:
    """A journal that counts how often it is asked."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.asked = 0
        self.statistics, self.append, self.aclose = journal.statistics, journal.append, journal.aclose
        self.notes = journal.notes

    async def find(self, keys: Iterable[str]) -> Mapping[str, Record]:
        self.asked += 1
        return await self._journal.find(keys)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Counting]:
    """One that held something else when the run began."""
    opened = await open_journal(tmp_path / "run.journal")
    await opened.append(Record("of another input", b""))
    yield Counting(opened)
    await opened.aclose()


def ledger(journal: Journal) -> Ledger:
    return Ledger(journal, OutputSpec(Out))


async def keep_all(page: Page, steps: Iterable[Recorded]) -> None:
    assert page.keep is not None
    for number, heard in enumerate(steps, start=len(page.steps)):
        await page.keep(number, heard)


async def recorded(journal: Journal) -> list[Recorded]:
    return list((await ledger(journal).open(KEY, 3)).steps)


async def test_a_result_is_found_again_as_it_was(journal: Journal) -> None:
    result = result_of("bee")
    page = await ledger(journal).open(KEY, 3)
    assert page.result is None
    assert await page.finish(result) is result
    again = await ledger(journal).open(KEY, 7)
    assert again.result is not None
    assert again.result.resumed
    assert again.result.index == 7
    expected = {**result.as_dict(), "index": 7, "resumed": True}
    assert (again.result.as_dict(), again.result.output) == (expected, Out(word="bee"))


async def test_what_was_heard_is_found_again_in_order(journal: Journal) -> None:
    await keep_all(await ledger(journal).open(KEY, 3), STEPS)
    assert await recorded(journal) == STEPS


async def test_a_conversation_that_was_taken_up_again_goes_on_where_it_was(journal: Journal) -> None:
    for number in range(len(STEPS)):
        page = await ledger(journal).open(KEY, 3)
        assert list(page.steps) == STEPS[:number]
        await keep_all(page, STEPS[number : number + 1])
    assert await recorded(journal) == STEPS


async def test_a_conversation_is_taken_up_under_equal_conditions_only_and_a_result_under_any(journal: Journal) -> None:
    small, large = (Ledger(journal, OutputSpec(Out), f"model:{room}") for room in (4_000, 32_000))
    await keep_all(await small.open(KEY, 3), STEPS)
    assert list((await small.open(KEY, 3)).steps) == STEPS
    page = await large.open(KEY, 3)
    assert page.steps == ()
    await keep_all(page, STEPS[:1])
    assert [len((await each.open(KEY, 3)).steps) for each in (small, large)] == [len(STEPS), 1]
    await page.finish(result_of("bee"))
    assert (await small.open(KEY, 3)).result is not None


async def test_other_agents_hear_nothing_of_it(journal: Journal) -> None:
    await keep_all(await ledger(journal).open(KEY, 3), STEPS)
    for other in (f"{KEY}-1", KEY[:-1], f"{KEY}0"):
        page = await ledger(journal).open(other, 3)
        assert (page.result, page.steps) == (None, ())


async def test_a_finished_agent_takes_one_look_and_needs_no_steps(journal: Counting) -> None:
    page = await ledger(journal).open(KEY, 3)
    await keep_all(page, STEPS)
    await page.finish(result_of("bee"))
    journal.asked = 0
    again = await ledger(journal).open(KEY, 3)
    assert (again.result is not None, again.steps, journal.asked) == (True, (), 1)


async def test_a_journal_that_was_empty_is_never_asked(tmp_path: Path) -> None:
    journal = Counting(await open_journal(tmp_path / "new.journal"))
    book = ledger(journal)
    for number in range(5):
        page = await book.open(f"{KEY}{number}", number)
        await keep_all(page, STEPS)
        await page.finish(result_of("bee"))
    assert (journal.asked, journal.statistics().written) == (0, 25)
    await journal.aclose()


async def test_a_journal_that_keeps_nothing_is_told_nothing() -> None:
    page = await ledger(NullJournal()).open(KEY, 3)
    assert page.keep is None
    result = result_of("bee")
    assert await page.finish(result) is result


async def test_a_failure_is_not_kept(journal: Journal) -> None:
    failed = AgentResult[Out](index=3, key=KEY, ok=False, output=None, error=InvalidOutputError("no", text=""))
    assert await (await ledger(journal).open(KEY, 3)).finish(failed) is failed
    assert (await ledger(journal).open(KEY, 3)).result is None
    assert journal.statistics().records == 1


@pytest.mark.parametrize("lost", range(len(STEPS)))
async def test_a_gap_ends_the_recording_and_nothing_old_follows_on_what_is_new(
    journal: Counting, tmp_path: Path, lost: int
) -> None:
    await keep_all(await ledger(journal).open(KEY, 3), STEPS)
    await journal.aclose()
    path = tmp_path / "run.journal"
    content = encode_heard(STEPS[lost])
    assert path.read_bytes().count(content) == 1
    path.write_bytes(path.read_bytes().replace(content, bytes(len(content))))
    opened = await open_journal(path)
    assert opened.statistics().quarantined == 1
    page = await ledger(opened).open(KEY, 3)
    assert list(page.steps) == STEPS[:lost]
    other: Recorded = Reply("another") if isinstance(STEPS[lost], Reply) else [ToolReport("another", executed=True)]
    await keep_all(page, [other])
    assert await recorded(opened) == [*STEPS[:lost], other]
    await keep_all(await ledger(opened).open(KEY, 3), STEPS[lost + 1 :])
    assert await recorded(opened) == [*STEPS[:lost], other, *STEPS[lost + 1 :]]
    await opened.aclose()


FOREIGN = [b"", b"\0", b"{}", b"[]{", b'{"text": 3}', b"\xc1", b"\xff" * 50, b'{"word": "bee"}', b"[" * 100_000]


@pytest.mark.parametrize("payload", FOREIGN, ids=lambda payload: ascii(payload[:12]))
async def test_what_cannot_be_read_is_done_again_and_then_found(journal: Journal, payload: bytes) -> None:
    first_step = f"{KEY}#"
    await journal.append(Record(KEY, payload), Record(first_step, payload))
    page = await ledger(journal).open(KEY, 3)
    assert page.result is None
    assert page.steps == ()
    await keep_all(page, STEPS)
    assert await recorded(journal) == STEPS
    await page.finish(result_of("bee"))
    again = await ledger(journal).open(KEY, 3)
    assert again.result is not None
    assert (again.result.output, again.result.key) == (Out(word="bee"), KEY)


async def test_an_answer_that_is_not_valid_any_more_is_replaced_once(journal: Journal) -> None:
    class Number(BaseModel):
        word: int

    await (await ledger(journal).open(KEY, 3)).finish(result_of("bee"))
    changed = Ledger(journal, OutputSpec(Number))
    page = await changed.open(KEY, 3)
    assert page.result is None
    await page.finish(AgentResult(index=3, key=KEY, ok=True, output=Number(word=7), error=None))
    for _ in range(2):
        again = await Ledger(journal, OutputSpec(Number)).open(KEY, 3)
        assert again.result is not None
        assert again.result.output == Number(word=7)
    old = await ledger(journal).open(KEY, 3)
    assert old.result is not None
    assert old.result.output == Out(word="bee")


class Unwritable(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    thing: object


@pytest.mark.parametrize(
    "output", [Unwritable(thing=object()), {"word": "\ud800"}, object()], ids=["model", "text", "any"]
)
async def test_an_output_that_cannot_be_written_down_fails_alone(journal: Journal, output: object) -> None:
    page = await ledger(journal).open(KEY, 3)
    result = await page.finish(AgentResult(index=3, key=KEY, ok=True, output=output, error=None))
    assert not result.ok
    assert isinstance(result.error, StorageError)
    assert result.error.remedy
    assert result.as_dict()["output"] is None
    assert (await ledger(journal).open(KEY, 3)).result is None


async def test_results_that_cannot_be_written_are_named(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    book = ledger(journal)
    pages = [await book.open(f"{KEY}{n}", n) for n in (5, 2, 9)]
    monkeypatch.setattr("aurora_swarm.journal.store.add", lambda *_: 1 / 0)
    ended = await asyncio.gather(*(page.finish(result_of("bee")) for page in pages), return_exceptions=True)
    assert all(isinstance(error, StorageError) for error in ended)
    assert book.unsaved == (2, 5, 9)


def odd_value(dice: random.Random, depth: int = 0) -> object:
    kind = dice.randrange(7 if depth < 3 else 5)
    if kind == 0:
        return dice.choice([None, True, False])
    if kind == 1:
        return dice.choice([0, -1, 2**63, -(2**63), 2**64, 10**40, dice.randrange(10**6)])
    if kind == 2:
        return dice.choice([0.5, float("inf"), -0.0, 1e308])
    if kind in {3, 4}:
        return "".join(
            dice.choice(["a", "\0", "\ud800", "\u202e", "\U0001f41d", '"', "{"]) for _ in range(dice.randrange(6))
        )
    if kind == 5:
        return [odd_value(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {str(odd_value(dice, 3)): odd_value(dice, depth + 1) for _ in range(dice.randrange(4))}


def test_whatever_a_model_says_is_read_as_it_was() -> None:
    dice = random.Random(5)
    for number in range(3_000):
        arguments = {f"a{n}": odd_value(dice) for n in range(dice.randrange(4))}
        text = str(odd_value(dice, 3))
        heard: Recorded = Reply(text, "stop", Usage(number), "m", None, (ToolCall(text, "tool", arguments),))
        assert decode_heard(encode_heard(heard)) == heard
        reports = [ToolReport(text, executed=True), ToolReport(str(number), executed=False)]
        assert decode_heard(encode_heard(reports)) == reports


def test_a_call_that_is_nested_without_end_is_refused() -> None:
    arguments: dict[str, object] = {}
    inner = arguments
    for _ in range(100_000):
        inner["a"] = {}
        inner = inner["a"]  # type: ignore[assignment]
    with pytest.raises(InvalidOutputError, match="nested"):
        encode_heard(Reply("", tool_calls=(ToolCall("1", "tool", arguments),)))
