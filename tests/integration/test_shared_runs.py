"""A batch over several real processes and both stores: whoever is killed loses nothing and doubles nothing."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, aclosing
from pathlib import Path

import pytest

from aurora_swarm.batch.plan import Sharing
from aurora_swarm.batch.run import BatchOptions, open_batch
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.batch.worker import work
from aurora_swarm.errors import UsageError, WorkerLostError
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.testing.redis_server import RedisServer

HERE = Path(__file__).parent
CALL = '{"tool": "look_up", "arguments": {"key": "{prompt}"}}'
TWO_TURNS = ServerPlan(latency_s=0.02, capacity=16, turns=(CALL, '{"answer": "done {prompt}"}'))
AGENTS = 200


def on(usual):
    """On one store usually, on the other one too where there is time."""
    stores = [pytest.param(name, marks=() if name == usual else pytest.mark.chaos) for name in ("redis", "sqlite")]
    return pytest.mark.parametrize("url", stores, indirect=True)


@pytest.fixture(params=["redis", "sqlite"])
def url(request, tmp_path):
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite://{tmp_path / 'run.sqlite'}"
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="r"))
            yield stack.enter_context(RedisServer(Path(folder))).url


@pytest.fixture
def fleet():
    with fleet_process([TWO_TURNS] * 2) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def _tools_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))


async def shared(fleet, url, inputs, *, system_prompt="", max_inflight=None, **more):
    from shared_run_example import look_up

    backend = [f"vllm://{endpoint.host}:{endpoint.port}" for endpoint in fleet.endpoints]
    sharing = Sharing(store=url, run="shared", **({"lease_s": 1.0} | more))
    options = BatchOptions(backend=backend, max_inflight=max_inflight, sharing=sharing)
    spec = BatchSpec("{job}", system_prompt, tools=(look_up,), tool_choice="required", tool_protocol="native")
    async with open_batch(spec, [{"job": job} for job in inputs], options) as results:
        async for result in results:
            yield result


async def collected(stream, at=None, do=None):
    """All results of a stream; after so many of them something is done."""
    results = []
    async with aclosing(stream):
        async for result in stream:
            results.append(result)
            if len(results) == at:
                do()
    return results


def workers_of(parent):
    """Processes that a process has begun as workers."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"engines.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def begun_and_killed(program, lines):
    """What a driver said before it was killed; its two workers are gone then."""
    driver = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        said = [int(driver.stdout.readline()) for _ in range(lines)]
        workers = workers_of(driver.pid)
        assert len(workers) == 2
    finally:
        driver.kill()
        driver.communicate()
    deadline = time.monotonic() + 10
    while any(lives(pid) for pid in workers):
        assert time.monotonic() < deadline, "workers outlive their driver"
        time.sleep(0.05)
    return said


def lives(pid):
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False


def check_whole(results, inputs):
    assert sorted(result.index for result in results) == list(range(len(inputs)))
    for result in results:
        assert result.ok, result.error
        assert result.output == f"done {inputs[result.index]}"


async def test_a_worker_is_killed_and_nothing_is_lost_or_doubled(url, fleet, tmp_path, monkeypatch):
    log = tmp_path / "looked_up"
    monkeypatch.setenv("LOOKED_UP", str(log))
    inputs = [f"job {n}" for n in range(AGENTS)]

    def kill_one():
        pid = int(log.read_text().splitlines()[-1].split()[0])  # one that is at work
        assert pid in workers_of(os.getpid())
        os.kill(pid, signal.SIGKILL)

    results = await collected(shared(fleet, url, inputs, max_inflight=16), 50, kill_one)
    check_whole(results, inputs)
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    by = {pid: Counter(key for who, key in lines if who == pid) for pid, _ in lines}
    assert len(by) >= 2
    assert all(max(keys.values()) == 1 for keys in by.values())
    repeated = len(lines) - AGENTS
    assert 0 <= repeated <= 2 * 16
    assert fleet.counts().answered <= 2 * AGENTS + 2 * 2 * 16


@on("redis")
async def test_a_job_that_kills_its_process_fails_and_the_others_finish(url, fleet):
    inputs = [f"job {n}" for n in range(40)]
    inputs[7] = "poison"
    results = await collected(shared(fleet, url, inputs, lease_s=0.5))
    assert sorted(result.index for result in results) == list(range(40))
    (lost,) = (result for result in results if not result.ok)
    assert lost.index == 7
    assert isinstance(lost.error, WorkerLostError)
    assert "3 times" in str(lost.error)
    assert all(result.output == f"done {inputs[result.index]}" for result in results if result.ok)


@on("sqlite")
async def test_the_driver_is_killed_and_the_same_call_goes_on(url, fleet, tmp_path):
    inputs = [f"job {n}" for n in range(AGENTS)]
    places = [(endpoint.host, endpoint.port) for endpoint in fleet.endpoints]
    program = f"""
import asyncio, sys
from types import SimpleNamespace
sys.path.insert(0, {str(HERE)!r})
from test_shared_runs import shared
async def main():
    fleet = SimpleNamespace(endpoints=[SimpleNamespace(host=host, port=port) for host, port in {places!r}])
    async for result in shared(fleet, {url!r}, {inputs!r}, max_inflight=8):
        print(result.index, flush=True)
asyncio.run(main())
"""
    first = begun_and_killed(program, 60)
    results = await collected(shared(fleet, url, inputs, max_inflight=8))
    check_whole(results, inputs)
    resumed = {result.index for result in results if result.resumed}
    assert set(first) <= resumed
    assert len(resumed) < AGENTS
    assert [result.index for result in results[:60]] == first
    again = await collected(shared(fleet, url, inputs, processes=0))
    assert [(r.index, r.output) for r in again] == [(r.index, r.output) for r in results]


@on("redis")
async def test_workers_come_and_go(url, fleet):
    """Nobody begins workers here; two tasks work, one is ended in the middle, a third one comes."""
    inputs = [f"job {n}" for n in range(AGENTS)]
    workers = []

    def change():
        workers[0].cancel()
        workers.append(asyncio.create_task(work(url, "shared")))

    async def begin():
        await (await opened_when_made(url)).aclose()
        workers.extend(asyncio.create_task(work(url, "shared")) for _ in range(2))

    beginning = asyncio.create_task(begin())
    results = await collected(shared(fleet, url, inputs, processes=0, max_inflight=8), 40, change)
    await beginning
    check_whole(results, inputs)
    done = await asyncio.gather(*workers, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(isinstance(count, int) for count in done[1:])
    assert fleet.counts().answered <= 2 * AGENTS + 16


@on("sqlite")
async def test_a_worker_that_comes_when_another_one_has_all_gets_its_part(fleet, url):
    inputs = [f"job {number}" for number in range(600)]
    running = asyncio.create_task(collected(shared(fleet, url, inputs, processes=0, max_inflight=4)))
    store = await opened_when_made(url)
    workers = [asyncio.create_task(work(url, "shared"))]
    async with asyncio.timeout(20):
        while sum((owned := (await store.progress()).owned).values()) < store.plan.shards // 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert len(owned) == 1
        workers.append(asyncio.create_task(work(url, "shared")))
        least = store.plan.shards // 4
        while len(owned := (await store.progress()).owned) < 2 or min(owned.values()) < least:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    check_whole(await running, inputs)
    ended = await asyncio.gather(*workers)
    assert min(ended) > len(inputs) // 8
    await store.aclose()


async def opened_when_made(url):
    """The run's store, once somebody has made the run."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await open_shards(url, run="shared")
            except UsageError:
                await asyncio.sleep(0.02)
