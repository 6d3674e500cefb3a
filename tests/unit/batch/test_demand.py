"""Slots go to agents that began before they go to new ones, and none is ever lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from aurora_swarm.batch.demand import AGEING_S, Entry, Seat, Slots
from aurora_swarm.testing.virtual_time import run_virtual


async def _taken(slots: Slots, turns_left: int, order: list[object], name: object) -> None:
    await slots.take(turns_left)
    order.append(name)


async def _in_order_of_taking(waiters: list[tuple[int, float]]) -> list[object]:
    """Names of waiters (turns left, when they came) in the order in which one slot goes round."""
    slots, order = Slots(1), list[object]()
    await slots.take(0)
    tasks = []
    for name, (turns_left, came) in enumerate(waiters):
        await asyncio.sleep(max(came - asyncio.get_running_loop().time(), 0))
        tasks.append(asyncio.create_task(_taken(slots, turns_left, order, name)))
    await asyncio.sleep(0)
    for _ in tasks:
        slots.give()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return order


def test_the_nearly_finished_go_first() -> None:
    assert run_virtual(_in_order_of_taking([(5, 0.0), (1, 0.1), (3, 0.2)])) == [1, 2, 0]


def test_waiting_outweighs_turns_so_that_nobody_starves() -> None:
    assert run_virtual(_in_order_of_taking([(2, 0.0), (0, 3 * AGEING_S)])) == [0, 1]


async def test_equal_waiters_are_served_in_the_order_in_which_they_came() -> None:
    assert await _in_order_of_taking([(1, 0.0)] * 5) == [0, 1, 2, 3, 4]


async def test_a_new_agent_waits_behind_one_that_is_under_way() -> None:
    slots, order = Slots(1), list[object]()
    entry = Entry(slots, turns=4)
    await entry.enter()
    new = asyncio.create_task(entry.enter())
    await asyncio.sleep(0)
    old = asyncio.create_task(_taken(slots, 1, order, "old"))
    await asyncio.sleep(0)
    slots.give()
    await asyncio.sleep(0)
    assert (order, new.done()) == (["old"], False)
    slots.give()
    await new
    await old


@pytest.mark.parametrize("when", ["waiting", "handed over"])
async def test_a_cancelled_waiter_loses_no_slot(when: str) -> None:
    slots = Slots(1)
    await slots.take(0)
    waiter = asyncio.create_task(slots.take(0))
    await asyncio.sleep(0)
    if when == "handed over":
        slots.give()
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    if when == "waiting":
        slots.give()
    async with asyncio.timeout(1):
        await slots.take(0)


async def test_agents_that_come_and_go_at_random_never_hold_more_slots_than_there_are() -> None:
    slots, dice, held, most = Slots(3), random.Random(7), 0, 0

    async def agent() -> None:
        nonlocal held, most
        await slots.take(2)
        seat = Seat(slots, keeps=dice.random() < 0.5)
        try:
            for turns_left in (1, 0):
                await seat.take(turns_left)
                held += 1
                most = max(most, held)
                try:
                    await asyncio.sleep(dice.random() / 1000)
                finally:
                    held -= 1
                    seat.rest()
                await asyncio.sleep(dice.random() / 1000)
        finally:
            seat.leave()

    tasks = [asyncio.create_task(agent()) for _ in range(100)]
    for task in dice.sample(tasks, 30):
        asyncio.get_running_loop().call_later(dice.random() / 50, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert held == 0
    async with asyncio.timeout(1):
        for _ in range(3):
            await slots.take(0)
    assert most <= 3


# -- the end of a batch ------------------------------------------------------------------------------------------------


async def _steps(agents: int, limit: int, turns: int = 2, *, keeps: bool = True, may_ebb: bool = True) -> float:
    """How long a batch takes whose turns take a second each, and how many turns are its least."""
    slots = Slots(limit)
    entry = Entry(slots, turns, agents, lambda: may_ebb)

    async def agent() -> None:
        if not entry.enter_now():
            await entry.enter()
        seat = Seat(slots, keeps=keeps)
        for turn in range(turns):
            await seat.take(turns - turn - 1)
            await asyncio.sleep(1.0)
            seat.rest()
        seat.leave()

    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(agent() for _ in range(agents)))
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize(("agents", "limit", "turns"), [(5, 4, 2), (200, 64, 2), (9, 4, 3), (67, 16, 5), (3, 8, 4)])
@pytest.mark.parametrize("keeps", [True, False])
def test_a_batch_does_not_end_with_few_agents_in_many_slots(agents: int, limit: int, turns: int, keeps: bool) -> None:
    least = max(-(-agents * turns // limit), turns)
    assert run_virtual(_steps(agents, limit, turns, keeps=keeps)) == pytest.approx(least)


def test_where_engines_hold_few_conversations_the_order_stays() -> None:
    assert run_virtual(_steps(5, 4, may_ebb=False)) == pytest.approx(4.0)


async def test_who_waits_already_when_the_end_comes_is_ordered_anew() -> None:
    slots, order = Slots(1), list[object]()
    await slots.take(0)
    tasks = [asyncio.create_task(_taken(slots, turns_left, order, turns_left)) for turns_left in (1, 3, 2)]
    await asyncio.sleep(0)
    slots.ebb()
    for _ in tasks:
        slots.give()
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == [3, 2, 1]
