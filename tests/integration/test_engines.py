from __future__ import annotations

import asyncio
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from aurora_swarm.engines.open import open_engine
from aurora_swarm.errors import EngineError
from aurora_swarm.journal.sqlite_shards import SqliteShardStore
from aurora_swarm.ports.engine import Engine

HERE = Path(__file__).parent
EXAMPLE = runpy.run_path(str(HERE / "shard_worker_example.py"))
make_run, expected = EXAMPLE["make_run"], EXAMPLE["expected"]
SOON_S = 30.0


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@asynccontextmanager
async def closing(engine: Engine) -> AsyncIterator[Engine]:
    try:
        yield engine
    finally:
        await engine.aclose()


async def assert_all_done(store: SqliteShardStore, jobs: int) -> None:
    outputs = await store.outputs(limit=100_000)
    done = sorted((output.index, output.result.payload) for output in outputs)
    assert done == [(number, expected(number)) for number in range(jobs)]
    progress = await store.progress()
    assert (progress.admitted, progress.finished) == (jobs, jobs)


async def kill_owners(store: SqliteShardStore, kills: int, pause_s: tuple[float, float]) -> list[int]:
    """Kill who owns a shard, again and again, until the work is done; returns whom."""
    killed: list[int] = []
    dice = random.Random(7)
    while len(killed) < kills:
        await asyncio.sleep(dice.uniform(*pause_s))
        progress = await store.progress()
        if progress.finished == progress.admitted:
            break
        if owners := sorted({int(owner.split()[1]) for owner in progress.owned} - set(killed)):
            owner = dice.choice(owners)
            with suppress(ProcessLookupError):
                os.kill(owner, signal.SIGKILL)
                killed.append(owner)
    return killed


async def finished(store: SqliteShardStore, jobs: int) -> None:
    cursor, seen = "", 0
    async with asyncio.timeout(SOON_S):
        while seen < jobs:
            outputs = await store.outputs(cursor, wait_s=SOON_S)
            cursor, seen = outputs[-1].cursor, seen + len(outputs)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true: Callable[[], bool], within_s: float = SOON_S) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


class TestProcesses:
    async def test_workers_that_are_killed_lose_and_double_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "run.store"
        store, said = await make_run(str(path), 300), list[str]()
        async with closing(open_engine("processes", say=said.append)) as engine:
            killing = asyncio.create_task(kill_owners(store, 4, (0.2, 0.5)))
            await engine.keep("shard_worker_example:work", f"{path}?0.03", 3)
            killed = await killing
        await assert_all_done(store, 300)
        assert len(killed) >= 2
        assert sum("SIGKILL" in line for line in said) >= 2
        await store.aclose()

    @pytest.mark.chaos
    async def test_twenty_kills_over_two_thousand_agents(self, tmp_path: Path) -> None:
        path = tmp_path / "run.store"
        store = await make_run(str(path), 2_000)
        async with closing(open_engine("processes", say=lambda line: None)) as engine:
            killing = asyncio.create_task(kill_owners(store, 20, (0.3, 1.0)))
            await engine.keep("shard_worker_example:work", f"{path}?0.05", 4)
            killed = await killing
        await assert_all_done(store, 2_000)
        assert len(killed) == 20
        await store.aclose()

    async def test_its_lines_are_passed_on_and_its_argument_is_on_no_command_line(self) -> None:
        said: list[str] = []
        async with closing(open_engine("processes", say=said.append)) as engine:
            kept = asyncio.create_task(engine.keep("shard_worker_example:sit", "100000", 1))
            pids = await _pids(said, 1)
            line = Path(f"/proc/{pids[0][0]}/cmdline").read_bytes()
            assert b"shard_worker_example:sit" in line
            assert b"100000" not in line
            kept.cancel()
            await asyncio.wait({kept})

    @pytest.mark.parametrize("how", ["cancelled", "closed"])
    async def test_nothing_is_left_after_it_was_ended(self, how: str) -> None:
        said: list[str] = []
        engine = open_engine("processes", say=said.append)
        kept = asyncio.create_task(engine.keep("shard_worker_example:sit", "100000", 2))
        pids = await _pids(said, 2)
        assert all(is_alive(pid) for pair in pids for pid in pair)
        if how == "cancelled":
            kept.cancel()
        await engine.aclose()
        await asyncio.wait({kept})
        wait_until(lambda: not any(is_alive(pid) for pair in pids for pid in pair))

    async def test_a_worker_that_is_ended_has_time_to_give_back_what_it_holds(self, tmp_path: Path) -> None:
        said: list[str] = []
        async with closing(open_engine("processes", say=said.append)) as engine:
            kept = asyncio.create_task(engine.keep("shard_worker_example:tidy", str(tmp_path / "noted"), 1))
            await _pids(said, 1)
            kept.cancel()
            await asyncio.wait({kept})
            assert (tmp_path / "noted").read_text() == "in order"

    async def test_what_a_killed_worker_started_is_ended_with_it(self) -> None:
        said: list[str] = []
        async with closing(open_engine("processes", say=said.append)) as engine:
            kept = asyncio.create_task(engine.keep("shard_worker_example:sit", "100000", 1))
            ((worker, child),) = await _pids(said, 1)
            os.kill(worker, signal.SIGKILL)
            await _pids(said, 2)  # it was begun again
            wait_until(lambda: not is_alive(child))
            assert f"[worker 0] pids {worker} {child}" in said
            kept.cancel()
            await asyncio.wait({kept})

    def test_nothing_is_left_when_the_driver_is_killed(self) -> None:
        with driver("processes", "shard_worker_example:sit", "100000", 2) as process:
            assert process.stdout
            pids = [tuple(map(int, process.stdout.readline().split()[-2:])) for _ in range(2)]
            assert all(is_alive(pid) for pair in pids for pid in pair)
            process.kill()
            wait_until(lambda: not any(is_alive(pid) for pair in pids for pid in pair))

    async def test_a_driver_that_was_killed_goes_on_in_the_next_one(self, tmp_path: Path) -> None:
        path = tmp_path / "run.store"
        store = await make_run(str(path), 200)
        with driver("processes", "shard_worker_example:work", f"{path}?0.1", 2) as process:
            await finished(store, 20)
            process.kill()
        assert (await store.progress()).finished < 200
        async with closing(open_engine("processes", say=lambda line: None)) as engine:
            await engine.keep("shard_worker_example:work", f"{path}?0.01", 2)
        await assert_all_done(store, 200)
        await store.aclose()

    async def test_what_dies_is_begun_again_until_it_returns(self, tmp_path: Path) -> None:
        said: list[str] = []
        async with closing(open_engine("processes", say=said.append)) as engine:
            await engine.keep("shard_worker_example:die", str(tmp_path / "lives"), 1)
        assert (tmp_path / "lives").read_text() == "xxx"
        assert [line for line in said if "begun again" in line] == [
            "worker 0 ended with exit code 1; it is begun again in 0.1 s",
            "worker 0 ended with exit code 1; it is begun again in 0.2 s",
        ]

    @pytest.mark.parametrize(
        ("function", "why"),
        [("nobody_has_it:work", "cannot be imported"), ("shard_worker_example:refuse", "no such thing as x")],
    )
    async def test_where_beginning_again_is_of_no_use_it_says_so(self, function: str, why: str) -> None:
        async with closing(open_engine("processes", say=lambda line: None)) as engine:
            with pytest.raises(EngineError, match=why) as caught:
                await engine.keep(function, "x", 2)
        assert caught.value.remedy


async def test_a_worker_that_was_paused_past_its_lease_is_refused(tmp_path: Path) -> None:
    path, said = tmp_path / "run.store", list[str]()
    store = await make_run(str(path), 1, lease_s=1.0)
    async with closing(open_engine("processes", say=said.append)) as engine:
        kept = asyncio.create_task(engine.keep("shard_worker_example:work", f"{path}?0.5", 1))
        while not (owned := (await store.progress()).owned):  # noqa: ASYNC110 - another process's
            await asyncio.sleep(0.02)
        worker = int(next(iter(owned)).split()[1])
        await asyncio.sleep(0.1)  # it has claimed and loaded, and writes 0.4 s later
        os.kill(worker, signal.SIGSTOP)
        await asyncio.sleep(1.2)
        claim = await store.claim_any("another")
        assert claim
        jobs = await store.load(claim, 10)
        os.kill(worker, signal.SIGCONT)
        await asyncio.sleep(0.6)  # its write comes now, if it comes
        assert await store.load(claim, 10) == jobs
        await store.release(claim)
        await kept
    await assert_all_done(store, 1)
    await store.aclose()


class TestRay:
    async def test_workers_that_are_killed_lose_and_double_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "run.store"
        store = await make_run(str(path), 80)
        with driver("ray", "shard_worker_example:work", f"{path}?0.1", 2) as process:
            killed = await kill_owners(store, 1, (0.3, 0.6))
            assert await asyncio.to_thread(process.wait, 90) == 0
            assert process.stdout
            assert "token authentication is on" in process.stdout.read()
        await assert_all_done(store, 80)
        assert len(killed) == 1
        await store.aclose()

    @pytest.mark.chaos
    async def test_twenty_kills_over_two_thousand_agents(self, tmp_path: Path) -> None:
        path = tmp_path / "run.store"
        store = await make_run(str(path), 2_000)
        with driver("ray", "shard_worker_example:work", f"{path}?0.1", 4) as process:
            killed = await kill_owners(store, 20, (0.5, 1.5))
            assert await asyncio.to_thread(process.wait, 110) == 0
        await assert_all_done(store, 2_000)
        assert len(killed) == 20
        await store.aclose()

    @pytest.mark.chaos
    @pytest.mark.timeout(180)
    async def test_a_driver_that_was_killed_leaves_nothing_and_goes_on_in_the_next_one(self, tmp_path: Path) -> None:
        path = tmp_path / "run.store"
        store = await make_run(str(path), 300)
        with driver("ray", "shard_worker_example:work", f"{path}?0.1", 2) as process:
            await finished(store, 30)
            begun = processes_of(process.pid)
            # They try for a minute to tell the cluster that their raylet is dead.
            agents = {pid for pid in begun if b"Agent" in Path(f"/proc/{pid}/cmdline").read_bytes()}
            process.kill()
            await asyncio.to_thread(wait_until, lambda: not any(map(is_alive, begun - agents)), 10.0)
        assert (await store.progress()).finished < 300
        with driver("ray", "shard_worker_example:work", f"{path}?0.05", 2) as process:
            assert await asyncio.to_thread(process.wait, 90) == 0
        await assert_all_done(store, 300)
        await store.aclose()
        await asyncio.to_thread(wait_until, lambda: not any(map(is_alive, agents)), 90.0)

    @pytest.mark.chaos
    @pytest.mark.timeout(180)
    async def test_a_killed_node_costs_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "run.store"
        store = await make_run(str(path), 1_000)
        with driver("cluster", "shard_worker_example:work", f"{path}?0.1", 4) as process:
            await finished(store, 50)
            process.send_signal(signal.SIGUSR1)  # kills a node
            assert await asyncio.to_thread(process.wait, 100) == 0
            assert process.stdout
            said = process.stdout.read()
        assert "4 nodes" in said
        assert "a node was killed" in said
        await assert_all_done(store, 1_000)
        await store.aclose()


async def _pids(said: list[str], count: int) -> list[tuple[int, int]]:
    """Worker and child, as `sit` says them."""
    async with asyncio.timeout(SOON_S):
        while len(lines := [line for line in said if "pids" in line]) < count:  # noqa: ASYNC110 - a plain list
            await asyncio.sleep(0.02)
    return [(int(line.split()[-2]), int(line.split()[-1])) for line in lines]


class driver:  # noqa: N801 - used as a function
    """A process that keeps workers, and ends by itself when they have returned."""

    def __init__(self, place: str, function: str, argument: str, copies: int) -> None:
        command = [sys.executable, str(HERE / "engine_driver_example.py"), place, function, argument, str(copies)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> subprocess.Popen[str]:
        return self.process

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()


def processes_of(parent: int) -> set[int]:
    """All that a process began, and what they began."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    family = {parent}
    while more := {pid for pid, of in parents.items() if of in family} - family:
        family |= more
    return family - {parent}
