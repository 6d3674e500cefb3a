"""Those who ask at the same time share one action; nobody is forgotten, whatever happens to the others."""

from __future__ import annotations

import asyncio

import pytest

from aurora_swarm.errors import StoreError
from aurora_swarm.memory.gathering import Gathering


class Doubling:
    """Doubles numbers; refuses -13 alone, and all of a group that holds 99."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.may_go = asyncio.Event()
        self.may_go.set()

    async def __call__(self, asked: list[int]) -> list[int | Exception]:
        self.groups.append(asked)
        await self.may_go.wait()
        if 99 in asked:
            raise ValueError("all of it")
        return [ValueError("minus 13") if number == -13 else 2 * number for number in asked]


async def test_all_who_ask_at_once_share_one_action() -> None:
    act = Doubling()
    ask = Gathering[int, int](act, most=100)
    assert await asyncio.gather(*(ask(n) for n in range(50))) == [2 * n for n in range(50)]
    assert act.groups == [list(range(50))]


async def test_who_comes_during_an_action_is_in_the_next_one() -> None:
    act = Doubling()
    act.may_go.clear()
    ask = Gathering[int, int](act, most=3)
    tasks = [asyncio.create_task(ask(n)) for n in range(2)]
    await asyncio.sleep(0.01)
    tasks += [asyncio.create_task(ask(n)) for n in range(2, 7)]
    await asyncio.sleep(0.01)
    act.may_go.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12]
    assert act.groups == [[0, 1], [2, 3, 4], [5, 6]]


async def test_an_error_reaches_whoever_it_is_of() -> None:
    act = Doubling()
    ask = Gathering[int, int](act, most=100)
    ended = await asyncio.gather(ask(1), ask(-13), ask(2), return_exceptions=True)
    assert [ended[0], str(ended[1]), ended[2]] == [2, "minus 13", 4]
    both = await asyncio.gather(ask(1), ask(99), return_exceptions=True)
    assert [type(end) for end in both] == [ValueError, ValueError]
    assert both[0] is not both[1]
    assert await ask(5) == 10


async def test_a_cancelled_one_disturbs_nobody() -> None:
    act = Doubling()
    act.may_go.clear()
    ask = Gathering[int, int](act, most=100)
    tasks = [asyncio.create_task(ask(n)) for n in range(4)]
    await asyncio.sleep(0.01)
    tasks[1].cancel()
    await asyncio.sleep(0)
    act.may_go.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ended] == [int, asyncio.CancelledError, int, int]


async def test_closing_answers_who_asked_and_nobody_after() -> None:
    act = Doubling()
    ask = Gathering[int, int](act, most=2)
    tasks = [asyncio.create_task(ask(n)) for n in range(5)]
    await asyncio.sleep(0)
    await asyncio.gather(ask.aclose(), ask.aclose())
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8]
    with pytest.raises(StoreError, match="closed"):
        await ask(1)


def test_a_loop_that_is_torn_down_leaves_nobody_waiting() -> None:
    ended: list[BaseException] = []

    async def waits(ask: Gathering[int, int]) -> None:
        try:
            await ask(1)
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    async def main() -> None:
        act = Doubling()
        act.may_go.clear()
        ask = Gathering[int, int](act, most=1)
        tasks = [asyncio.create_task(waits(ask)) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)

    asyncio.run(main())
    assert len(ended) == 3


async def test_an_action_that_is_cancelled_leaves_nobody_waiting() -> None:
    async def cancelled(asked: list[int]) -> list[int]:
        raise asyncio.CancelledError

    ask = Gathering[int, int](cancelled, most=1)
    async with asyncio.timeout(5):
        ended = await asyncio.gather(*(ask(n) for n in range(3)), return_exceptions=True)
    assert [type(end) for end in ended] == [asyncio.CancelledError] * 3
