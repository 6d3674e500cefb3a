"""Several processes keep the limits of endpoints together, in virtual time: whoever comes, goes, idles or dies."""

import asyncio
import random
from collections import Counter

import pytest

from aurora_swarm.batch.sharing import EndpointShares
from aurora_swarm.dispatch.dispatcher import Limits
from aurora_swarm.errors import StorageError
from aurora_swarm.journal.shares import fair_part, granted
from aurora_swarm.pools.model_runtime import ModelRuntime
from aurora_swarm.pools.pool import Pool
from aurora_swarm.testing.simulation import EndpointPlan, SimulatedTransport, run_simulated
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo
from aurora_swarm.values.shard import RunPlan

LEASE_S = 2.0


def now():
    return asyncio.get_running_loop().time()


class SharesInMemory:
    """The shares of a run as the stores keep them, on the loop's clock."""

    def __init__(self, seed=1):
        self.plan = RunPlan(run="run", lease_s=LEASE_S)
        self.rows = {}
        self.asked = 0
        self.slowness_s = 0.01
        self.is_down = False
        self._dice = random.Random(seed)

    async def share(self, resource, owner, *, held, want, total):
        await asyncio.sleep(self._dice.uniform(0, self.slowness_s))
        if self.is_down:
            raise StorageError("the store is gone")
        self.asked += 1
        rows = self.rows = {key: row for key, row in self.rows.items() if row[2] > now()}
        mine = rows.pop((resource, owner), (0, 0, 0))[1]
        here = {key[1]: row for key, row in rows.items() if key[0] == resource}
        part = fair_part({name: row[0] for name, row in here.items()} | {owner: want}, owner, total)
        share = granted(part=part, held=min(held, mine), free=total - sum(row[1] for row in here.values()))
        if share or want:
            rows[resource, owner] = want, share, now() + LEASE_S
        await asyncio.sleep(self._dice.uniform(0, self.slowness_s))
        return share


class World:
    """Servers that see how many calls of all processes they have at a time."""

    def __init__(self, size, latency_s, *, slots=8):
        tags = {"slots": str(slots)} if slots else {}
        self.fleet = [AgentEndpoint(f"node{i}", 8000, tags) for i in range(size)]
        plans = {endpoint: EndpointPlan(latency_s=latency_s, jitter=0.3, capacity=1000) for endpoint in self.fleet}
        self.transport = SimulatedTransport(plans, dice=random.Random(5), watch=self._note)
        self.transport.aclose = self._stay_open
        self.store = SharesInMemory()
        self.open = Counter()
        self.most = Counter()
        self.answered = Counter()
        self.open_s = 0.0

    async def _stay_open(self):
        """The transport is that of all processes."""

    def _note(self, endpoint, what, calls):
        if what == "sent":
            self.open[endpoint] += len(calls)
            self.most[endpoint] = max(self.most[endpoint], self.open[endpoint])
        else:
            self.open[endpoint] -= len(calls)
            self.answered[what] += len(calls)

    @property
    def busiest(self):
        return max(self.most.values())


class Process:
    """A pool of its own, its share of the endpoints, and somebody who asks."""

    def __init__(self, world, name, **options):
        self.world = world
        self.pool = Pool(
            ModelRuntime(world.fleet, world.transport, limits=Limits(concurrency=256)), range(len(world.fleet))
        )
        self.shares = EndpointShares(world.store, self.pool, name, **options)
        self.answers = 0

    async def work(self, calls, width=64):
        """Ask so many calls, so many of them at a time."""
        todo = iter(range(calls))

        async def one():
            for number in todo:
                (response,) = await self.pool.send_all([f"prompt {number}"])
                assert response.success
                self.answers += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(one())

    async def run(self, calls, width=64, after_s=0.0):
        await asyncio.sleep(after_s)
        async with self.pool, self.shares:
            await self.work(calls, width)


def test_processes_that_start_at_once_never_send_more_than_an_endpoint_takes_and_keep_it_busy():
    async def body():
        world = World(3, 0.4)
        await asyncio.gather(*(Process(world, name).run(600) for name in "abcd"))
        return world, now()

    world, seconds = run_simulated(body())
    assert world.busiest <= 8
    assert world.answered["answered"] == 2400
    assert seconds < 1.25 * 2400 * 0.4 / 24


@pytest.mark.parametrize("latency_s", [0.02, 0.4, 5.0])
def test_who_comes_later_has_its_part_soon_and_who_ends_leaves_it(latency_s):
    async def body():
        world = World(1, latency_s)
        early, late = Process(world, "a"), Process(world, "b")
        first = asyncio.create_task(early.run(100_000))
        await asyncio.sleep(10)
        alone = early.shares.shares()
        second = asyncio.create_task(late.run(100_000))
        await asyncio.sleep(4 + 3 * latency_s)
        was = early.answers, late.answers
        await asyncio.sleep(50 * latency_s)
        gained = early.answers - was[0], late.answers - was[1]
        first.cancel()
        await asyncio.sleep(2 + 2 * latency_s)
        left = late.shares.shares()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        return world, alone, gained, left

    world, alone, gained, left = run_simulated(body())
    assert world.busiest <= 8
    assert next(iter(alone.values())) in {7, 8}
    assert 0.7 <= gained[0] / gained[1] <= 1.4
    assert sum(gained) >= 0.8 * 8 * 50
    assert next(iter(left.values())) in {7, 8}


def test_what_one_process_does_not_use_another_has():
    async def body():
        world = World(1, 0.4)
        idle, busy = Process(world, "a"), Process(world, "b")
        tasks = [asyncio.create_task(idle.run(10_000, width=1)), asyncio.create_task(busy.run(10_000))]
        await asyncio.sleep(10)
        was, at = busy.answers, now()
        await asyncio.sleep(20)
        rate = (busy.answers - was) / (now() - at)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return world, rate

    world, rate = run_simulated(body())
    assert world.busiest <= 8
    assert rate >= 0.9 * 5 / 0.4


@pytest.mark.parametrize("seed", range(5))
def test_processes_that_come_idle_and_die_at_random_never_exceed_it_together(seed):
    async def life(world, dice, name):
        process = Process(world, name)
        await process.shares.__aenter__()
        for _ in range(dice.randint(1, 4)):
            await asyncio.sleep(dice.expovariate(1))
            work = asyncio.create_task(process.work(100_000, dice.choice([1, 3, 64])))
            await asyncio.sleep(dice.expovariate(0.2))
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        if dice.random() < 0.5:
            await process.shares.__aexit__(None, None, None)
        else:  # it is killed: its connections end, and nobody gives anything back
            keepers = list(process.shares._tasks)
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
        await process.pool.aclose()

    async def body():
        world, dice = World(2, 0.3), random.Random(seed)

        async def place(number):
            for generation in range(6):
                await life(world, dice, f"{number}-{generation}")

        await asyncio.gather(*map(place, range(4)))
        return world

    world = run_simulated(body())
    assert world.answered["answered"] > 300
    assert world.busiest <= 8


@pytest.mark.parametrize("seed", range(3))
def test_calls_that_come_while_a_share_is_asked_for_do_not_exceed_it(seed):
    async def bursts(process, dice):
        async with process.pool, process.shares:
            for _ in range(30):
                await process.work(dice.randint(1, 12), width=12)
                await asyncio.sleep(dice.expovariate(1))

    async def body():
        world, dice = World(1, 0.3), random.Random(seed)
        world.store.slowness_s = 0.3
        await asyncio.gather(*(bursts(Process(world, name), dice) for name in "abc"))
        return world

    assert run_simulated(body()).busiest <= 8


def test_who_cannot_reach_the_store_for_a_lease_sends_nothing_more_until_it_can():
    async def body():
        world = World(1, 0.4)
        process = Process(world, "a")
        task = asyncio.create_task(process.run(100_000))
        await asyncio.sleep(5)
        world.store.is_down = True
        await asyncio.sleep(LEASE_S + 0.5)
        was = process.answers
        await asyncio.sleep(5)
        during = process.answers - was
        world.store.is_down = False
        await asyncio.sleep(3)
        after = process.answers - was
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return during, after

    during, after = run_simulated(body())
    assert during == 0
    assert after > 20


def test_an_endpoint_of_which_nobody_says_what_it_takes_is_not_bounded():
    async def body():
        world = World(1, 0.4, slots=0)
        process = Process(world, "a")
        await process.run(400)
        return world, process.shares.shares()

    world, shares = run_simulated(body())
    assert world.busiest > 8
    assert shares == {}


def test_a_limit_that_is_given_goes_for_all_endpoints():
    async def body():
        world = World(2, 0.4, slots=50)
        await Process(world, "a", limit=3).run(60)
        return world

    assert run_simulated(body()).busiest == 3


def test_a_process_that_has_nothing_to_do_asks_nothing():
    async def body():
        world = World(3, 0.4)
        process = Process(world, "a")
        async with process.pool, process.shares:
            await asyncio.sleep(100)
            asked = world.store.asked
            await process.work(10)
            await asyncio.sleep(5)
            return asked, process.shares.shares()

    asked, shares = run_simulated(body())
    assert asked == 0
    assert set(shares.values()) == {0}


def test_slots_that_a_server_tells_are_its_limit():
    async def body():
        world = World(1, 0.4, slots=0)
        processes = [Process(world, name) for name in "ab"]

        async def run(process):
            async with process.pool, process.shares:
                process.pool.runtime.dispatcher.inform(0, EndpointInfo(slots=4))
                await process.work(200)

        await asyncio.gather(*map(run, processes))
        return world

    assert run_simulated(body()).busiest == 4
