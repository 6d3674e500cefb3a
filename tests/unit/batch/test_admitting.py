"""Inputs on their way into a store: no more than have room, and every output finds its input."""

import asyncio

import pytest

from aurora_swarm.batch.admitting import Admission
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.values.shard import Batch, Output, Result, RunPlan


@pytest.fixture
async def store(tmp_path):
    store = await open_shards(f"sqlite://{tmp_path / 'run.sqlite'}", RunPlan(run="run", shards=1))
    yield store
    await store.aclose()


async def jobs_in(store, claim):
    return await store.load(claim, 10_000)


async def test_no_more_inputs_are_in_the_store_than_have_room(store):
    pulled = []

    def inputs():
        for n in range(3_000):
            pulled.append(n)
            yield {"n": n}

    admission = Admission(store, inputs(), window=600)
    admitting = asyncio.create_task(admission.admit())
    claim = await store.claim(0, "a")
    done = most = 0
    while not admission.is_finished:
        jobs = await jobs_in(store, claim)
        most = max(most, len(jobs))
        await store.apply(claim, Batch(results=[Result(each.job.key, b"") for each in jobs[:400]]))
        for each in jobs[:400]:
            assert admission.place(Output("", 0, Result(each.job.key, b""))) == each.job.index
            done += 1
        await asyncio.sleep(0.001)
    await admitting
    assert done == len(pulled) == 3_000
    assert most <= 600 + 500
    progress = await store.progress()
    assert (progress.admitted, progress.whole) == (3_000, True)


async def test_outputs_that_are_ahead_wait_for_their_inputs(store):
    first = Admission(store, [{"n": n} for n in range(10)], window=100)
    await first.admit()
    claim = await store.claim(0, "a")
    keys = [each.job.key for each in await jobs_in(store, claim)]
    second = Admission(store, [{"n": n} for n in range(10)], window=100)
    assert second.place(Output("", 4, Result(keys[4], b""))) is None
    assert second.take_early() == []
    await second.admit()
    (output,) = second.take_early()
    assert second.place(output) == 4
    assert not second.is_finished


async def test_outputs_of_inputs_that_are_none_any_more_are_passed_over(store):
    await Admission(store, [{"n": 0}, {"n": 1}], window=100).admit()
    claim = await store.claim(0, "a")
    keys = [each.job.key for each in await jobs_in(store, claim)]
    fewer = Admission(store, [{"n": 1}], window=100)
    await fewer.admit()
    assert fewer.place(Output("", 0, Result(keys[0], b""))) is None
    assert fewer.place(Output("", 1, Result(keys[1], b""))) == 0
    assert fewer.is_finished


async def test_a_full_window_never_keeps_outputs_from_being_read(store):
    admission = Admission(store, ({"n": n} for n in range(100_000)), window=5)
    admitting = asyncio.create_task(admission.admit())
    for n in range(10):
        admission.place(Output("", n, Result(f"of somebody else {n}", b"")))
    await asyncio.sleep(0.1)
    assert admission.wants_outputs
    admitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await admitting


async def test_inputs_that_come_one_by_one_are_put_in_soon(store):
    more = asyncio.Event()

    async def inputs():
        yield {"n": 0}
        await more.wait()
        yield {"n": 1}

    admission = Admission(store, inputs(), window=100)
    admitting = asyncio.create_task(admission.admit())
    async with asyncio.timeout(5):
        while (await store.progress()).admitted < 1:  # noqa: ASYNC110 - it is in the store
            await asyncio.sleep(0.01)
    assert not admission.is_whole
    more.set()
    await admitting
    assert (await store.progress()).admitted == 2


async def test_what_inputs_raise_is_raised_and_the_run_is_not_whole(store):
    def inputs():
        yield {"n": 0}
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        await Admission(store, inputs(), window=100).admit()
    assert not (await store.progress()).whole
