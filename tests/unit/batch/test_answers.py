"""Equal calls of pure tools run once over several processes: each test has two stores, as two processes would."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from aurora_swarm import Tool
from aurora_swarm.batch.answers import MAX_PAYLOAD, SharedAnswers, decode_answer, encode_answer
from aurora_swarm.journal.sqlite_shards import SqliteShardStore
from aurora_swarm.tools.flights import Execution
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.shard import RunPlan

LEASE_S = 0.4


class Process:
    """A store, shared answers and tools of its own."""

    def __init__(self, store, name):
        self.store = store
        self.answers = SharedAnswers(store, name)
        self.pool = ToolPool(elsewhere=self.answers)

    async def call(self, tool, **arguments):
        return await self.pool.call(ToolCall("id", tool.name, arguments), {tool.name: tool})

    def count(self, tool):
        return self.pool.statistics()[tool.name]


@pytest.fixture
async def processes(tmp_path):
    async with AsyncExitStack() as stack:

        async def opened(name):
            store = await SqliteShardStore.open(tmp_path / "run.sqlite", "run", RunPlan(run="run", lease_s=LEASE_S))
            stack.push_async_callback(store.aclose)
            process = Process(store, name)
            await stack.enter_async_context(process.answers)
            stack.push_async_callback(process.pool.aclose)
            return process

        yield [await opened(name) for name in "ab"]


class Looked:
    """A tool that counts how often it ran, and takes its time."""

    def __init__(self, effect="pure", takes_s=0.1, text="found", **options):
        self.runs = Counter()
        self.begun = asyncio.Event()
        self.broken = False

        async def look(key: str) -> str:
            """Look something up."""
            self.runs[key] += 1
            self.begun.set()
            await asyncio.sleep(takes_s)
            if self.broken:
                raise RuntimeError("no luck")
            return f"{text} {key}"

        self.tool = Tool.define(effect=effect, **options)(look)


async def test_equal_calls_run_once_over_all_processes(processes):
    look = Looked()
    one, other = processes
    calls = [process.call(look.tool, key=key) for process in (one, other) * 3 for key in "xyz"]
    answers = await asyncio.gather(*calls)
    assert [answer.text for answer in answers] == ["found x", "found y", "found z"] * 6
    assert look.runs == {"x": 1, "y": 1, "z": 1}
    assert sum(answer.executed for answer in answers) == 3
    assert one.count(look.tool).executed + other.count(look.tool).executed == 3
    assert one.count(look.tool).elsewhere + other.count(look.tool).elsewhere == 3


async def test_an_answer_is_found_by_who_asks_later_and_then_remembered(processes):
    look = Looked(takes_s=0.0)
    one, other = processes
    await one.call(look.tool, key="x")
    assert (await other.call(look.tool, key="x")).text == "found x"
    assert (await other.call(look.tool, key="x")).executed is False
    assert look.runs == {"x": 1}
    assert (other.count(look.tool).elsewhere, other.count(look.tool).remembered) == (1, 1)


async def test_single_look_ups_that_go_together_are_shared_too(processes):
    queries = []

    @Tool.batchable()
    async def names(ids: list[str]) -> dict[str, str]:
        """Look up names."""
        queries.append(sorted(ids))
        return {each: each.upper() for each in ids}

    one, other = processes
    await asyncio.gather(*(one.call(names, ids=each) for each in "abc"))
    assert [(await other.call(names, ids=each)).text for each in "abc"] == ["A", "B", "C"]
    assert sorted(key for query in queries for key in query) == ["a", "b", "c"]


async def test_what_has_effects_or_may_be_repeated_is_never_shared(processes):
    for effect in ("effect", "idempotent"):
        look = Looked(effect=effect, takes_s=0.0)
        for process in processes:
            assert (await process.call(look.tool, key="x")).executed
        assert look.runs == {"x": 2}


async def test_a_call_that_failed_elsewhere_is_made_here(processes):
    look = Looked()
    one, other = processes
    look.broken = True
    first = asyncio.create_task(one.call(look.tool, key="x"))
    await look.begun.wait()
    second = asyncio.create_task(other.call(look.tool, key="x"))
    assert not (await first).ok
    look.broken = False
    assert (await second).text == "found x"
    assert look.runs == {"x": 2}


async def test_a_call_that_is_cancelled_elsewhere_is_made_here_at_once(processes):
    look = Looked(takes_s=0.2)
    one, other = processes
    first = asyncio.create_task(one.call(look.tool, key="x"))
    await look.begun.wait()
    second = asyncio.create_task(other.call(look.tool, key="x"))
    await asyncio.sleep(0.05)
    first.cancel()
    async with asyncio.timeout(5):
        assert (await second).text == "found x"
    assert look.runs == {"x": 2}


async def test_the_call_of_a_process_that_died_is_taken_over_when_its_lease_is_over(processes):
    look = Looked(takes_s=0.2)
    one, other = processes
    assert await one.store.begin_answer(one.pool._key_elsewhere(look.tool, await key_of(one, look)), "one, dead soon")
    await one.store.aclose()
    async with asyncio.timeout(5):
        assert (await other.call(look.tool, key="x")).text == "found x"
    assert look.runs == {"x": 1}


async def key_of(process, look):
    return await process.pool._key(look.tool, look.tool.validated({"key": "x"}))


async def test_without_a_store_every_process_makes_its_own_calls(processes):
    look = Looked(takes_s=0.0)
    for process in processes:
        await process.store.aclose()
        assert (await process.call(look.tool, key="x")).text == "found x"
    assert look.runs == {"x": 2}


async def test_an_answer_that_is_too_long_is_made_by_each_who_needs_it(processes):
    look = Looked(takes_s=0.0, text="y" * MAX_PAYLOAD, max_chars=2 * MAX_PAYLOAD)
    for process in processes:
        assert len((await process.call(look.tool, key="x")).text) > MAX_PAYLOAD
    assert look.runs == {"x": 2}


async def test_grants_do_not_matter_and_what_is_shown_does(processes):
    look = Looked(takes_s=0.0)
    one, other = processes
    await one.call(look.tool.limit(key=["x", "y"]), key="x")
    await other.call(look.tool.limit(key=["x"]), key="x")
    assert look.runs == {"x": 1}
    assert (await other.call(look.tool.showing(max_chars=100), key="x")).executed
    assert look.runs == {"x": 2}


async def test_an_answer_that_ages_is_not_kept_beyond_its_time(processes):
    look = Looked(takes_s=0.0, ttl=0.5)
    one, other = processes
    await one.call(look.tool, key="x")
    await asyncio.sleep(0.25)
    await other.call(look.tool, key="x")
    assert look.runs == {"x": 1}
    await asyncio.sleep(0.4)
    await other.call(look.tool, key="x")
    assert look.runs == {"x": 2}


@pytest.mark.parametrize("text", ["", "half \ud83d", "nul\0 \u65e5\u672c", "x" * 1000])
def test_any_text_comes_back_as_it_was(text):
    assert decode_answer(encode_answer(Execution(text, ok=True))) == Execution(text, ok=True, is_borrowed=True)
    final = Execution(text, ok=False, is_final=True)
    assert decode_answer(encode_answer(final)) == Execution(text, ok=False, is_final=True, is_borrowed=True)
    assert encode_answer(Execution(text, ok=False)) is None


@pytest.mark.parametrize("payload", [b"", b"x", b"?text", b"o\xff\xfe"])
def test_what_cannot_be_read_is_made_anew(payload):
    assert decode_answer(payload) is None
