"""One shard and who owns it: agents go on where they were, are fenced at once, and end as failures at last."""

import asyncio
import contextlib
import json

import pytest

from aurora_swarm import AgentEndpoint, Tool, VLLMPool
from aurora_swarm.batch.plan import Keys
from aurora_swarm.batch.run import compiler_for
from aurora_swarm.batch.shard_results import read
from aurora_swarm.batch.shards import ShardCompiler, run_shard, workplace
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.batch.stored import encode_heard
from aurora_swarm.errors import FencedError, TemplateError, WorkerLostError
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.reply import Reply, Usage
from aurora_swarm.values.shard import Batch, RunPlan, Turn

PLAN = RunPlan(run="run", shards=1, lease_s=0.6)


def answer_of(call, _endpoint):
    """A lookup first, and what it said as the answer."""
    told = [message.content for message in call.messages if message.role == "tool"]
    task = next(message.content for message in call.messages if message.role == "user")
    if not told:
        return json.dumps({"tool": "pay", "arguments": {"task": task}})
    return json.dumps({"answer": told[0]})


class Bench:
    """A shard with jobs, and a place to work on them."""

    def __init__(self, store, pool, transport, tools, compiler):
        self.store, self.pool, self.transport, self.tools, self.compiler = store, pool, transport, tools, compiler
        self.jobs = []

    async def admit(self, *inputs):
        keys = Keys()
        self.jobs = [keys.job(index, fields) for index, fields in enumerate(inputs)]
        await self.store.admit(self.jobs)

    def place(self, **more):
        return workplace(self.compiler, self.pool, self.tools, self.store.plan, **more)

    async def claimed(self, owner="a", *, force=True):
        claim = await self.store.claim(0, owner, force=force)
        assert claim is not None
        return claim

    async def results(self):
        outputs = await self.store.outputs(limit=100)
        return {output.index: read(output.result.payload, output.index, self.compiler.output) for output in outputs}

    def asked(self):
        return len(self.transport.calls)


@pytest.fixture
async def bench_of(tmp_path):
    async with contextlib.AsyncExitStack() as stack:

        async def make(task="task {n}", *, delay_s=0.0, tools=(), script=answer_of, plan=PLAN, inflight=8):
            store = await open_shards(f"sqlite://{tmp_path / 'run.sqlite'}", plan)
            stack.push_async_callback(store.aclose)
            transport = ScriptedTransport(script, delay_s=delay_s)
            pool = VLLMPool([AgentEndpoint("a")], "m", transport=transport, concurrency=inflight)
            await stack.enter_async_context(pool)
            toolbox = ToolPool()
            stack.push_async_callback(toolbox.aclose)
            spec = BatchSpec(task=task, tools=tools, tool_protocol="constrained")
            return Bench(store, pool, transport, toolbox, await compiler_for(spec, "m", pool, kind=ShardCompiler))

        yield make


def paying(paid, *, hold=None):
    @Tool.define(effect="effect")
    async def pay(task: str) -> str:
        """Pay."""
        paid.append(task)
        if hold is not None:
            await hold.wait()
        return f"receipt {task}"

    return pay


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is waited for is in a tool or a store
        await asyncio.sleep(0.01)


async def test_a_shard_is_worked_to_its_end_and_given_back(bench_of):
    paid = []
    bench = await bench_of(tools=[paying(paid)])
    await bench.admit(*({"n": n} for n in range(20)))
    assert await run_shard(bench.store, await bench.claimed(), bench.place()) == 20
    results = await bench.results()
    assert {index: result.output for index, (result, _) in results.items()} == {
        n: f"receipt task {n}" for n in range(20)
    }
    assert all([tool.tool for tool in tools] == ["pay"] for _, tools in results.values())
    assert sorted(paid) == sorted(f"task {n}" for n in range(20))
    assert (await bench.store.progress()).owned == {}


async def test_what_was_heard_is_not_asked_again_and_an_effect_in_doubt_is_not_repeated(bench_of):
    paid = []
    bench = await bench_of(tools=[paying(paid)])
    await bench.admit({"n": 0}, {"n": 1})
    asked_to_pay = Reply(json.dumps({"tool": "pay", "arguments": {"task": "task 0"}}), usage=Usage(7, 3))
    dead = await bench.claimed("dead")
    turns = [Turn(bench.jobs[0].key, 0, encode_heard(asked_to_pay))]
    await bench.store.apply(dead, Batch(begun=[bench.jobs[0].key], turns=turns))
    await run_shard(bench.store, await bench.claimed("alive"), bench.place())
    results = await bench.results()
    first, second = results[0][0], results[1][0]
    assert (first.in_doubt, first.replayed) == (1, 1)
    assert (second.in_doubt, second.replayed) == (0, 0)
    assert paid == ["task 1"]
    assert bench.asked() == 3  # two turns of the second, one of the first


async def test_a_fenced_owner_stops_at_once_and_writes_nothing_more(bench_of):
    paid, hold = [], asyncio.Event()
    bench = await bench_of(tools=[paying(paid, hold=hold)])
    await bench.admit(*({"n": n} for n in range(4)))
    owning = asyncio.create_task(run_shard(bench.store, await bench.claimed("slow"), bench.place()))
    await until(lambda: len(paid) == 4)
    other = await bench.claimed("other")
    with pytest.raises(FencedError):
        await owning  # although its tools never return
    hold.set()
    assert await bench.results() == {}
    assert [len(job.turns) for job in await bench.store.load(other, 10)] == [1] * 4
    assert [job.attempts for job in await bench.store.load(other, 10)] == [1] * 4


async def test_the_lease_is_renewed_while_agents_think(bench_of):
    bench = await bench_of(delay_s=2 * PLAN.lease_s, script=lambda *_: "yes")
    await bench.admit({"n": 0})
    owning = asyncio.create_task(run_shard(bench.store, await bench.claimed(), bench.place()))
    while not owning.done():
        await asyncio.sleep(0.05)
        assert owning.done() or await bench.store.claim(0, "other") is None
    assert await owning == 1


async def test_a_shard_is_given_back_when_it_is_drained_or_cancelled(bench_of):
    paid, hold = [], asyncio.Event()
    bench = await bench_of(tools=[paying(paid, hold=hold)], inflight=2)
    await bench.admit(*({"n": n} for n in range(40)))
    drain = asyncio.Event()
    owning = asyncio.create_task(run_shard(bench.store, await bench.claimed(), bench.place(max_inflight=1), drain))
    await until(lambda: paid)
    drain.set()
    hold.set()
    ended = await owning
    claim = await bench.claimed("next", force=False)
    left = await bench.store.load(claim, 100)
    assert len(left) == 40 - ended
    assert all(each.attempts == 0 for each in left)
    hold.clear()
    owning = asyncio.create_task(run_shard(bench.store, claim, bench.place()))
    before = len(paid)
    await until(lambda: ended == 40 or len(paid) > before)
    owning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await owning
    claim = await bench.claimed("last", force=False)
    assert all(each.attempts == 0 for each in await bench.store.load(claim, 100))


async def test_an_agent_whose_workers_died_too_often_has_failed(bench_of):
    bench = await bench_of(script=lambda *_: "yes")
    await bench.admit({"n": 0}, {"n": 1})
    for attempt in range(PLAN.max_attempts):
        await bench.store.apply(await bench.claimed(f"{attempt}"), Batch(begun=[bench.jobs[1].key]))
    await run_shard(bench.store, await bench.claimed("last"), bench.place())
    results = await bench.results()
    assert results[0][0].ok
    lost = results[1][0]
    assert isinstance(lost.error, WorkerLostError)
    assert lost.error.remedy
    assert bench.asked() == 1


async def test_on_its_last_attempt_a_suspect_is_alone(bench_of):
    under_way, most_beside = set(), []

    @Tool.define(effect="pure")
    async def pay(task: str) -> str:
        """Say who else is there."""
        under_way.add(task)
        await asyncio.sleep(0.02)
        most_beside.append((task, len(under_way)))
        under_way.discard(task)
        return task

    bench = await bench_of(tools=[pay])
    await bench.admit(*({"n": n} for n in range(12)))
    for attempt in range(PLAN.max_attempts - 1):
        await bench.store.apply(await bench.claimed(f"{attempt}"), Batch(begun=[bench.jobs[5].key]))
    await run_shard(bench.store, await bench.claimed("last"), bench.place())
    assert all(result.ok for result, _ in (await bench.results()).values())
    beside = dict(most_beside)
    assert beside["task 5"] == 1
    assert max(beside.values()) > 1


async def test_an_input_that_makes_no_task_has_failed(bench_of):
    bench = await bench_of(script=lambda *_: "yes")
    await bench.admit({"n": 0}, {"other": 1})
    assert await run_shard(bench.store, await bench.claimed(), bench.place()) == 2
    results = await bench.results()
    assert results[0][0].ok
    assert isinstance(results[1][0].error, TemplateError)


async def test_a_recording_that_cannot_be_read_is_left_as_it_is(bench_of):
    paid = []
    bench = await bench_of(tools=[paying(paid)])
    await bench.admit({"n": 0})
    dead = await bench.claimed("dead")
    await bench.store.apply(dead, Batch(turns=[Turn(bench.jobs[0].key, version, b"\xff") for version in range(2)]))
    await run_shard(bench.store, await bench.claimed("alive"), bench.place())
    ((result, _),) = (await bench.results()).values()
    assert result.ok
    assert (result.replayed, result.turns) == (0, 2)


async def test_jobs_that_come_later_are_taken_up(bench_of):
    bench = await bench_of(script=lambda *_: "yes", delay_s=0.4)
    keys = Keys()
    await bench.store.admit([keys.job(0, {"n": 0})])
    owning = asyncio.create_task(run_shard(bench.store, await bench.claimed(), bench.place()))
    await asyncio.sleep(0.1)
    await bench.store.admit([keys.job(1, {"n": 1})])
    assert await owning == 2
