"""Waiting for coroutines that end when they are told to, late, or never."""

import asyncio

import pytest

from aurora_swarm.agents.endings import endable
from aurora_swarm.testing.virtual_time import run_virtual


def cancelled_after(seconds, coroutine, grace_s=1.0):
    """Cancel a task that waits for the coroutine; return when it was over, and whether it was cancelled."""

    async def waits():
        return await endable(coroutine, grace_s)

    async def main():
        loop = asyncio.get_running_loop()
        task = loop.create_task(waits())
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return loop.time(), task.cancelled()

    return run_virtual(main())


def test_what_ends_by_itself_is_as_if_it_were_awaited():
    async def answers():
        await asyncio.sleep(1)
        return 5

    async def fails():
        await asyncio.sleep(1)
        raise KeyError("x")

    async def main():
        assert await endable(answers()) == 5
        with pytest.raises(KeyError):
            await endable(fails())
        future = asyncio.get_running_loop().create_future()
        future.set_result(7)
        assert await endable(future) == 7

    run_virtual(main())


def test_what_heeds_its_cancellation_ends_at_once():
    assert cancelled_after(3, asyncio.sleep(100)) == (3.0, True)


def test_cleaning_up_may_take_a_while():
    cleaned = []

    async def tidy():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.5)
            cleaned.append(True)

    assert cancelled_after(3, tidy()) == (3.5, True)
    assert cleaned


def test_what_swallows_its_cancellation_is_closed_after_the_grace():
    closed = []

    async def stubborn():
        try:
            while True:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    continue
        finally:
            closed.append(True)

    assert cancelled_after(3, stubborn()) == (4.0, True)
    assert closed


def test_what_goes_on_even_when_closed_is_left_there():
    async def lingering():
        try:
            while True:
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    continue
        finally:
            await asyncio.sleep(100)

    assert cancelled_after(3, lingering()) == (4.0, True)


def test_what_returns_a_value_when_it_is_cancelled_is_cancelled_all_the_same():
    async def obstinate():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return 5

    assert cancelled_after(3, obstinate()) == (3.0, True)


def test_a_time_limit_within_is_not_taken_for_a_cancellation():
    async def limited():
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(100)
        except TimeoutError:
            await asyncio.sleep(10)
            return "late"

    async def main():
        loop = asyncio.get_running_loop()
        return await endable(limited()), loop.time()

    assert run_virtual(main()) == ("late", 11.0)


def test_a_time_limit_around_it_ends_it_as_a_time_limit():
    async def stubborn():
        while True:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await endable(stubborn())
        assert asyncio.current_task().cancelling() == 0
        return loop.time()

    assert run_virtual(main()) == 4.0


def test_a_task_group_within_that_fails_is_not_taken_for_a_cancellation():
    async def bad():
        raise ValueError("x")

    async def grouped():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(bad())
                await asyncio.sleep(100)
        except* ValueError:
            pass
        await asyncio.sleep(2)
        return "done"

    async def main():
        return await endable(grouped())

    assert run_virtual(main()) == "done"
