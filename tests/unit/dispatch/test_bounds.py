"""Bounds that change while endpoints work."""

import asyncio

import pytest

from aurora_swarm.values.call import Call
from aurora_swarm.values.message import Message


def call(text="hi"):
    return Call(messages=(Message("user", text),))


def now():
    return asyncio.get_running_loop().time()


async def begun(dispatcher, view, n):
    tasks = [asyncio.create_task(dispatcher.ask(call(str(i)), view)) for i in range(n)]
    await asyncio.sleep(0)
    return tasks


async def all_answered(tasks):
    outcomes = await asyncio.gather(*tasks)
    return all(outcome.error is None for outcome in outcomes)


def test_a_bound_holds_and_can_be_lifted(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 2)
        assert await all_answered(await begun(dispatcher, view, 10))
        bounded = world.busiest, now()
        dispatcher.bounds.set(0, None)
        assert await all_answered(await begun(dispatcher, view, 10))
        return bounded, world.busiest, now()

    bounded, busiest, wall = fleet(1, lambda i, t: 1.0, main)
    assert bounded == (2, pytest.approx(5.0))
    assert busiest == 10
    assert wall == pytest.approx(6.0)


def test_a_lower_bound_lets_calls_end_and_a_higher_one_starts_those_who_wait(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 3)
        tasks = await begun(dispatcher, view, 9)
        assert dispatcher.bounds.load(0) == 3
        dispatcher.bounds.set(0, 1)
        assert dispatcher.bounds.load(0) == 3
        assert await dispatcher.bounds.drained(0, 1, until=5.0)
        assert (now(), dispatcher.bounds.load(0)) == (1.0, 1)  # two ended; the third's slot went to the next
        dispatcher.bounds.set(0, 3)
        assert dispatcher.bounds.load(0) == 3
        assert await all_answered(tasks)
        return world.busiest

    assert fleet(1, lambda i, t: 1.0, main) == 3


def test_waiting_for_a_drain_has_an_end(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 3)
        tasks = await begun(dispatcher, view, 3)
        assert not await dispatcher.bounds.drained(0, 0, until=0.5)
        assert now() == pytest.approx(0.5)
        assert await all_answered(tasks)
        assert await dispatcher.bounds.drained(0, 0, until=0.5)

    fleet(1, lambda i, t: 1.0, main)


def test_an_endpoint_that_may_have_no_call_now_is_not_one_that_is_down(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 0)
        tasks = await begun(dispatcher, view, 3)
        await asyncio.sleep(1000)  # longer than anybody is patient with a fleet that is down
        assert dispatcher.bounds.waiting == 3
        assert not any(task.done() for task in tasks)
        dispatcher.bounds.set(0, 1)
        assert await all_answered(tasks)
        return dispatcher.statistics([0]).endpoints[0].condition

    assert fleet(1, lambda i, t: 1.0, main, deadline_s=20.0) == "well"


def test_a_bound_ends_with_its_time(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 2, until=3.5)
        tasks = await begun(dispatcher, view, 10)
        await asyncio.sleep(100)
        assert (world.sent[0], dispatcher.bounds.limit(0)) == (8, 0)
        dispatcher.bounds.set(0, 2)
        assert await all_answered(tasks)

    fleet(1, lambda i, t: 1.0, main)


def test_who_was_held_up_beyond_the_time_of_a_bound_sends_nothing_more(fleet):
    async def main(dispatcher, view, world):
        loop = asyncio.get_running_loop()
        dispatcher.bounds.set(0, 2, until=0.9)
        tasks = await begun(dispatcher, view, 4)
        late = dispatcher.bounds
        late._timers.pop(0).cancel()  # as if answers were read before timers are looked at
        await asyncio.sleep(50)
        assert loop.time() > 0.9
        assert world.sent[0] == 2
        dispatcher.bounds.set(0, 2)
        assert await all_answered(tasks)

    fleet(1, lambda i, t: 1.0, main)


def test_one_who_waits_for_demand_is_woken_by_it(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 0)
        waiter = asyncio.create_task(dispatcher.bounds.wanted())
        await asyncio.sleep(1)
        assert not waiter.done()
        tasks = await begun(dispatcher, view, 1)
        await waiter
        await dispatcher.bounds.wanted()
        dispatcher.bounds.set(0, 1)
        assert await all_answered(tasks)
        await dispatcher.bounds.wanted(until=now() + 2)
        return now()

    assert fleet(1, lambda i, t: 1.0, main) == pytest.approx(4.0)


def test_where_there_is_a_bound_calls_do_not_travel_together(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 2)
        outcomes = await dispatcher.ask_many([call(str(i)) for i in range(6)], view)
        assert all(outcome.error is None for outcome in outcomes)
        return world.busiest

    assert fleet(1, lambda i, t: 1.0, main) == 2


def test_calls_go_where_there_is_room(fleet):
    async def main(dispatcher, view, world):
        dispatcher.bounds.set(0, 0)
        dispatcher.bounds.set(1, 2)
        outcomes = [dispatcher.ask(call(str(i)), view, pin=0) for i in range(6)]
        assert await all_answered([asyncio.create_task(each) for each in outcomes])
        return world.sent

    assert fleet(2, lambda i, t: 1.0, main) == {1: 6}
