from __future__ import annotations

import asyncio

from aurora_swarm.swarms.messages.bell import Bell
from aurora_swarm.testing.virtual_time import run_virtual


def test_a_wait_looks_when_it_is_rung_and_not_otherwise() -> None:
    async def scenario() -> None:
        bell, found, looks = Bell(), [], 0

        async def look() -> list[int]:
            nonlocal looks
            looks += 1
            return list(found)

        waiting = asyncio.create_task(bell.first(look, ["a", "b"], wait_s=1_000.0))
        await asyncio.sleep(500)
        assert looks == 1
        bell.ring("c")
        await asyncio.sleep(1)
        assert looks == 1
        bell.ring("b")
        await asyncio.sleep(1)
        assert looks == 2
        found.append(7)
        bell.ring_all()
        assert await waiting == [7]
        assert looks == 3

    run_virtual(scenario())


def test_what_comes_while_it_looks_is_not_lost() -> None:
    async def scenario() -> None:
        bell, found = Bell(), []

        async def look() -> list[int]:
            before = list(found)
            if not found:
                found.append(1)
                bell.ring("a")  # between the look and the wait
            return before

        began = asyncio.get_running_loop().time()
        assert await bell.first(look, ["a"], wait_s=1_000.0) == [1]
        assert asyncio.get_running_loop().time() == began

    run_virtual(scenario())


def test_a_wait_ends_with_a_last_look_and_leaves_nothing() -> None:
    async def scenario() -> None:
        bell, times = Bell(), []
        loop = asyncio.get_running_loop()

        async def look() -> list[int]:
            times.append(loop.time())
            return []

        assert await bell.first(look, ["a"], wait_s=10.0, look_again_s=4.0) == []
        assert [round(time - times[0]) for time in times] == [0, 4, 8, 10]
        waiting = asyncio.create_task(bell.first(look, ["a"], wait_s=10.0))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        assert not bell._listeners

    run_virtual(scenario())
