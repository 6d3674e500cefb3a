"""Who drives a run that is shared: what comes out of it, in which order, and who is told."""

import asyncio

import pytest
from pydantic import BaseModel

from aurora_swarm import AgentEndpoint, BatchAgent, VLLMPool
from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.plan import Sharing
from aurora_swarm.batch.run import BatchOptions, run_batch
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.errors import CallbackError, EngineError, RequestRejectedError, UsageError
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.event import AgentEnded, AgentStarted, RunEnded, RunStarted


class Verdict(BaseModel):
    """An answer."""

    verdict: str


class Noted(list):
    """A sink."""

    def emit(self, event):
        self.append(event)


@pytest.fixture
async def shared(tmp_path):
    """Keywords of a run that is shared with workers in this process."""
    async with SimulatedFleet([ServerPlan(latency_s=0.005, refuses="refuse me")] * 2) as fleet:
        yield {
            "backend": [f"vllm://{endpoint.host}:{endpoint.port}" for endpoint in fleet.endpoints],
            "store": f"sqlite://{tmp_path / 'run.sqlite'}",
            "engine": "local",
        }


async def test_results_come_in_the_order_of_the_inputs_and_all_is_told_once(shared):
    noted, told = Noted(), []
    inputs = [{"n": f"text {n}"} for n in range(50)]
    results = await BatchAgent.run("Say {n}", inputs, sinks=[noted], on_result=told.append, **shared)
    assert [result.index for result in results] == list(range(50))
    assert all(result.output.endswith(f"text {n}") for n, result in enumerate(results))
    assert sorted(result.index for result in told) == list(range(50))
    assert isinstance(noted[0], RunStarted)
    assert noted[0].total == 50
    assert noted[-1] == RunEnded()
    for kind in (AgentStarted, AgentEnded):
        assert sum(isinstance(event, kind) for event in noted) == 50


async def test_the_same_call_asks_nothing_again_also_without_an_id(shared):
    inputs = [{"n": n} for n in range(20)]
    first = await BatchAgent.run("Say {n}", inputs, **shared)
    again = await BatchAgent.run("Say {n}", [*reversed(inputs), {"n": 20}], **shared)
    assert [result.output for result in again[:20]] == [result.output for result in reversed(first)]
    assert [result.resumed for result in again] == [True] * 20 + [False]
    assert not any(result.resumed for result in first)


async def test_workers_wait_for_what_is_new_in_a_further_call(shared):
    await BatchAgent.run("Say {n}", [{"n": n} for n in range(5)], run_id="one", **shared)

    async def slowly():
        yield {"n": 0}
        await asyncio.sleep(1.2)  # long enough for workers to start, look, and find that all there is has its result
        yield {"n": 5}

    again = await BatchAgent.run("Say {n}", slowly(), run_id="one", **shared)
    assert [(result.ok, result.resumed) for result in again] == [(True, True), (True, False)]


async def test_a_failure_is_a_result_with_its_error(shared):
    results = await BatchAgent.run("{n}", [{"n": "good"}, {"n": "refuse me"}], **shared)
    assert [result.ok for result in results] == [True, False]
    assert isinstance(results[1].error, RequestRejectedError)
    assert results[1].error.status == 400


async def test_inputs_may_come_one_by_one_and_who_has_enough_ends_it(shared):
    async def endless():
        n = 0
        while True:
            yield {"n": n}
            n += 1
            await asyncio.sleep(0)

    seen = set()
    stream = BatchAgent.stream("Say {n}", endless(), **shared)
    async for result in stream:
        seen.add(result.index)
        if len(seen) == 30:
            break
    await stream.aclose()
    assert len(seen) == 30


async def test_what_inputs_raise_comes_after_the_results_before_it(shared):
    def inputs():
        yield from ({"n": n} for n in range(3))
        raise ValueError("no more")

    async def awaited():
        for fields in inputs():
            yield fields

    for given, run in ((inputs(), "a"), (awaited(), "b")):
        seen = []
        with pytest.raises(ValueError, match="no more"):
            await BatchAgent.run(
                "Say {n}", given, run_id=run, on_result=lambda r, to=seen: to.append(r.index), **shared
            )
        assert sorted(seen) == [0, 1, 2]


async def test_a_callback_that_raises_fails_its_own_result(shared):
    def on_result(result):
        if result.index == 1:
            raise ValueError("mine")

    results = await BatchAgent.run("Say {n}", [{"n": n} for n in range(3)], on_result=on_result, **shared)
    assert [type(result.error) for result in results] == [type(None), CallbackError, type(None)]


async def test_no_inputs_are_a_run(shared):
    assert await BatchAgent.run("Say {n}", [], **shared) == []


async def test_memory_of_the_store_is_bounded_by_the_window(shared):
    sharing = Sharing(store=shared["store"], engine="local", window=40)
    options = BatchOptions(backend=shared["backend"], sharing=sharing)
    results = run_batch(BatchSpec("Say {n}"), ({"n": n} for n in range(1_500)), options)
    assert sorted([result.index async for result in results]) == list(range(1_500))


async def test_a_worker_that_cannot_begin_ends_the_run_with_a_sentence(shared):
    dead = shared | {"backend": "vllm://127.0.0.1:9"}
    with pytest.raises(EngineError):
        await BatchAgent.run("Say {n}", [{"n": 1}], **dead)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"processes": -1}, "processes is -1"),
        ({"journal": "x.journal"}, "journal and store"),
        ({"budget": Budget(tokens=5)}, "a budget cannot be kept"),
        ({"run_id": "no/id"}, "no id of a run"),
        ({"store": "ftp://x"}, "no kind of store"),
        ({"tools": [lambda word: word]}, "no name for a tool"),
        ({"store": None}, "of use with a store only"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_sent(shared, more, problem):
    with pytest.raises(UsageError, match=problem) as caught:
        await BatchAgent.run("Say {n}", [{"n": 1}], **(shared | more))
    assert caught.value.remedy


async def test_a_pool_of_this_process_is_no_backend_of_others(shared):
    async with VLLMPool([AgentEndpoint("a")], "m", transport=ScriptedTransport(lambda *_: "yes")) as pool:
        with pytest.raises(UsageError, match="no other process"):
            await BatchAgent.run("Say {n}", [{"n": 1}], **(shared | {"backend": pool}))


async def test_a_purse_is_not_shared(shared):
    options = BatchOptions(backend=shared["backend"], sharing=Sharing(store=shared["store"]))
    with pytest.raises(UsageError, match="budget"):
        await anext(run_batch(BatchSpec("Say {n}"), [{"n": 1}], options, purse=Purse(Budget(tokens=1), None)))


async def test_a_run_that_reduces_is_not_shared(shared):
    with pytest.raises(UsageError, match="reduces"):
        await BatchAgent.run_with_reduce("Say {n}", [{"n": 1}], reduce="Merge", **shared)
    with pytest.raises(UsageError, match="reduces"):
        await BatchAgent.run_with_map_reduce("Plan", Verdict, "Say {item}", "Merge", **shared)


async def test_another_batch_is_no_continuation(shared):
    await BatchAgent.run("Say {n}", [{"n": 1}], run_id="mine", **shared)
    with pytest.raises(UsageError, match="another task"):
        await BatchAgent.run("Say {n}", [{"n": 1}], run_id="mine", system_prompt="Be brief.", **shared)
