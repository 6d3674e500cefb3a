"""Redis is killed under load and comes back: nothing is lost, nothing is there twice, late writes are refused."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from tests.integration.shard_load import TURNS, Owner, expected, jobs, read_all

from aurora_swarm.errors import StorageError
from aurora_swarm.journal.redis.store import RedisShardStore
from aurora_swarm.testing.redis_server import RedisServer
from aurora_swarm.values.shard import Batch, Job, Result, RunPlan

HERE = Path(__file__).parent
SOON_S = 20.0


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def write_through(server: RedisServer, appendfsync: str) -> None:
    """Have Redis write to its disk at every command, or every second."""
    with redis.Redis.from_url(server.url) as client:
        client.config_set("appendfsync", appendfsync)


class Crashes:
    """Kills a server and starts it anew, again and again; every third time it only sleeps."""

    def __init__(self, server: RedisServer, appendfsync: str, every_s: tuple[float, float], down_s: float) -> None:
        self.count = 0
        self._server = server
        self._appendfsync = appendfsync
        self._every_s = every_s
        self._down_s = down_s

    async def go_on(self) -> None:
        """Until it is cancelled; then the server runs."""
        dice = random.Random(17)
        write_through(self._server, self._appendfsync)
        while True:
            await asyncio.sleep(dice.uniform(*self._every_s))
            self.count += 1
            await asyncio.shield(asyncio.to_thread(self._crash, dice.random() * self._down_s))

    def _crash(self, down_s: float) -> None:
        if self.count % 3 == 0 and self._server.pid is not None:
            os.kill(self._server.pid, signal.SIGSTOP)
            time.sleep(down_s)
            os.kill(self._server.pid, signal.SIGCONT)
            return
        self._server.kill()
        time.sleep(down_s)
        self._server.start()
        write_through(self._server, self._appendfsync)


async def work_while_it_crashes(server: RedisServer, crashes: Crashes, count: int, turn_s: float) -> list[Owner]:
    """Three processes' worth of owners do all jobs, while a reader follows the stream; compares the contents."""
    plan = RunPlan(run="crashes", shards=16, lease_s=1.0)
    stores = [await RedisShardStore.open(server.url, plan.run, plan) for _ in range(4)]
    owners = [Owner(store, f"owner {n}", turn_s) for n, store in enumerate(stores[:3])]
    crashing = asyncio.create_task(crashes.go_on())
    try:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(read_all(stores[3], count))
            for owner in [*owners, *owners]:
                group.create_task(owner.work())
            for first in range(0, count, 100):
                await stores[3].admit(jobs(count)[first : first + 100])
            await stores[3].close_admission()
    finally:
        crashing.cancel()
        await asyncio.wait({crashing})
    read = reading.result()
    assert sorted((output.index, output.result.payload) for output in read) == expected(count)
    assert read == await read_all(stores[0], count)
    assert await stores[0].outputs(read[-1].cursor) == []
    progress = await stores[1].progress()
    assert (progress.admitted, progress.finished, progress.whole) == (count, count, True)
    for store in stores:
        await store.aclose()
    return owners


async def test_nothing_is_lost_or_doubled_while_redis_is_killed(server: RedisServer) -> None:
    crashes = Crashes(server, "always", every_s=(0.3, 0.6), down_s=0.2)
    owners = await work_while_it_crashes(server, crashes, count=300, turn_s=0.2)
    assert crashes.count >= 2
    assert len(sum((owner.turns for owner in owners), Counter[tuple[str, int]]())) == 300 * TURNS


@pytest.mark.chaos
@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
async def test_nothing_is_lost_or_doubled_in_5000_jobs(server: RedisServer, appendfsync: str) -> None:
    crashes = Crashes(server, appendfsync, every_s=(2.0, 5.0), down_s=2.0)
    owners = await work_while_it_crashes(server, crashes, count=5_000, turn_s=0.5)
    assert crashes.count >= 5
    taken = sum((owner.turns for owner in owners), Counter[tuple[str, int]]())
    again, fenced = sum(taken.values()) - len(taken), sum(owner.fenced for owner in owners)
    assert len(taken) == 5_000 * TURNS
    sys.stdout.write(f"{crashes.count} crashes, {again} turns taken again, {fenced} owners fenced\n")


async def test_the_late_write_of_a_paused_process_is_refused(server: RedisServer) -> None:
    plan = RunPlan(run="paused", shards=4, lease_s=0.5)
    store = await RedisShardStore.open(server.url, plan.run, plan)
    await store.admit([Job("one", 0, b"")])
    command = (sys.executable, str(HERE / "paused_owner_example.py"), server.url, plan.run)
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(*command, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(SOON_S):
        epoch = int(await process.stdout.readline())
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5 * plan.lease_s)
        claim = await store.claim_any("another one")
        assert claim is not None
        assert claim.epoch > epoch
        process.stdin.write(b"\n")
        process.send_signal(signal.SIGCONT)
        assert (await process.stdout.readline()).startswith(b"refused: ")
        await store.apply(claim, Batch(results=[Result("one", b"in time")]))
        assert await process.wait() == 0
    assert [output.result for output in await store.outputs()] == [Result("one", b"in time")]
    await store.aclose()


async def test_a_redis_that_stays_away_is_waited_for_and_then_said(server: RedisServer) -> None:
    plan = RunPlan(run="away", shards=1)
    store = await RedisShardStore.open(server.url, plan.run, plan, patience_s=0.5)
    await store.admit([Job("one", 0, b"")])
    claim = await store.claim(0, "a")
    assert claim is not None
    server.kill()
    began = asyncio.get_running_loop().time()
    asked = (store.apply(claim, Batch()), store.outputs(wait_s=SOON_S), store.progress())
    for end in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(end, StorageError)
        assert "could not be reached for 0.5 s" in str(end)
    assert asyncio.get_running_loop().time() - began < SOON_S / 2
    server.start()
    await store.apply(claim, Batch(results=[Result("one", b"r")]))
    assert (await store.progress()).finished == 1
    await store.aclose()


async def test_a_redis_that_forgot_the_run_says_so(server: RedisServer) -> None:
    plan = RunPlan(run="forgotten", shards=1)
    store = await RedisShardStore.open(server.url, plan.run, plan)
    claim = await store.claim(0, "a")
    assert claim is not None
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    for asked in (store.apply(claim, Batch()), store.load(claim, 1), store.progress(), store.claim_any("a")):
        with pytest.raises(StorageError, match="not there any more") as caught:
            await asked
        assert "appendonly" in caught.value.remedy
    await store.aclose()


async def test_closing_does_not_wait_for_a_redis_that_is_away(server: RedisServer) -> None:
    plan = RunPlan(run="closing", shards=1)
    store = await RedisShardStore.open(server.url, plan.run, plan)
    server.kill()
    asked = asyncio.create_task(store.progress())
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2.0):
        await store.aclose()
    with pytest.raises(StorageError):
        await asked
