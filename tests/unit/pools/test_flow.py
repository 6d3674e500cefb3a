"""Items flow through a bounded number of workers."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.pools.flow import as_they_finish
from aurora_swarm.testing.virtual_time import run_virtual


@given(st.lists(st.floats(0, 10), max_size=60), st.integers(1, 12))
def test_every_item_gives_exactly_one_result(delays, width):
    async def main():
        async def work(index, delay):
            await asyncio.sleep(delay)
            return index

        return [r async for r in as_they_finish(delays, work, width=width)]

    assert sorted(run_virtual(main())) == list(range(len(delays)))


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40), st.integers(1, 12))
def test_no_more_than_width_items_are_under_way(delays, width):
    busy, busiest = 0, 0

    async def work(index, delay):
        nonlocal busy, busiest
        busy += 1
        busiest = max(busy, busiest)
        await asyncio.sleep(delay)
        busy -= 1

    async def main():
        async for _ in as_they_finish(delays, work, width=width):
            pass

    run_virtual(main())
    assert busiest == min(width, len(delays))


def test_results_come_in_order_of_completion():
    async def main():
        async def work(index, delay):
            await asyncio.sleep(delay)
            return delay

        return [r async for r in as_they_finish([3, 1, 2], work, width=3)]

    assert run_virtual(main()) == [1, 2, 3]


def test_endless_items_are_pulled_only_as_results_are_read():
    pulled = itertools.count()

    async def work(index, item):
        return item

    async def main():
        results = as_they_finish(pulled, work, width=4)
        for _ in range(10):
            await anext(results)
        await results.aclose()

    run_virtual(main())
    assert next(pulled) <= 10 + 2 * 4 + 1


def test_an_async_iterator_is_pulled_one_at_a_time_and_closed():
    closed = []

    async def items():
        try:
            for i in itertools.count():
                await asyncio.sleep(0.1)
                yield i
        finally:
            closed.append(True)

    async def work(index, item):
        await asyncio.sleep(1)
        return item

    async def main():
        results = as_they_finish(items(), work, width=3)
        got = [await anext(results) for _ in range(5)]
        await results.aclose()
        return got

    assert run_virtual(main()) == [0, 1, 2, 3, 4]
    assert closed == [True]


def test_closing_early_cancels_what_is_under_way():
    cancelled = []

    async def work(index, item):
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            cancelled.append(index)
            raise
        return item

    async def main():
        results = as_they_finish([0, 100, 100], work, width=3)
        await anext(results)
        await results.aclose()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) < 1
    assert sorted(cancelled) == [1, 2]


def test_an_iterable_that_raises_ends_the_flow_after_the_results_under_way():
    def items():
        yield 1
        yield 2
        raise ValueError("broken input")

    async def work(index, item):
        await asyncio.sleep(item)
        return item

    async def main():
        results = as_they_finish(items(), work, width=5)
        got = [await anext(results), await anext(results)]
        with pytest.raises(ValueError, match="broken input"):
            await anext(results)
        return got

    assert run_virtual(main()) == [1, 2]


def test_no_items_give_no_results():
    async def main():
        return [r async for r in as_they_finish([], None, width=4)]

    assert run_virtual(main()) == []
