"""What every `ShardStore` must do besides jobs: outputs, shares and answers. Inherit `ShardsContract` instead."""

# ruff: noqa: D102 - a test says what it shows in its name

from __future__ import annotations

import asyncio
import random

from aurora_swarm.testing.shards_samples import (
    LEASE_S,
    PLAN,
    SHORT,
    SOON_S,
    ShardsFactory,
    all_outputs,
    claimed,
    job,
    jobs_of,
)
from aurora_swarm.values.shard import Batch, Result


class OutputContract:
    """The stream of outputs."""

    async def test_all_readers_see_the_same_stream(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        jobs = jobs_of(1, 20)
        await store.admit(jobs)
        claim = await claimed(store, 1)
        for n in range(0, 20, 4):
            await store.apply(claim, Batch(results=[Result(each.key, each.payload) for each in jobs[n : n + 4]]))
        here, there = await all_outputs(store, 3), await all_outputs(other, 100)
        assert here == there
        assert [output.index for output in here] == [each.index for each in jobs]
        assert await other.outputs(here[11].cursor, 3) == here[12:15]
        assert await other.outputs(here[-1].cursor) == []

    async def test_one_who_waits_for_outputs_is_woken(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        one, two = jobs_of(1, 2)
        await store.admit([one, two])
        claim = await claimed(store, 1)
        cursor = ""
        for each in (one, two):
            waiting = asyncio.create_task(other.outputs(cursor, wait_s=2 * SOON_S))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await store.apply(claim, Batch(results=[Result(each.key, b"r")]))
            async with asyncio.timeout(SOON_S):
                (output,) = await waiting
            assert output.result == Result(each.key, b"r")
            cursor = output.cursor

    async def test_waiting_for_outputs_has_an_end_and_holds_up_nobody(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        began = asyncio.get_running_loop().time()
        waiting = [asyncio.create_task(store.outputs(wait_s=0.3)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await store.admit([job(1)])
        assert not any(task.done() for task in waiting)
        assert await asyncio.gather(*waiting) == [[], [], []]
        assert 0.3 <= asyncio.get_running_loop().time() - began < SOON_S


class ShareContract:
    """Shares of something bounded."""

    async def test_one_alone_has_all_that_it_wants(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        assert await store.share("e", "a", held=0, want=5, total=8) == 5
        assert await store.share("e", "a", held=5, want=50, total=8) == 8
        assert await store.share("other", "a", held=0, want=50, total=3) == 3
        assert await store.share("e", "a", held=0, want=50, total=2) == 2

    async def test_who_comes_later_waits_until_the_first_has_drained(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        assert await store.share("e", "a", held=0, want=50, total=8) == 8
        assert await other.share("e", "b", held=0, want=50, total=8) == 0
        assert await store.share("e", "a", held=7, want=50, total=8) == 7
        assert await other.share("e", "b", held=0, want=50, total=8) == 1
        assert await store.share("e", "a", held=2, want=50, total=8) == 4
        assert await other.share("e", "b", held=1, want=50, total=8) == 4

    async def test_what_one_does_not_want_the_others_have(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        assert await store.share("e", "a", held=0, want=1, total=8) == 1
        assert await store.share("e", "b", held=0, want=50, total=8) == 7
        assert await store.share("e", "a", held=1, want=0, total=8) == 1
        assert await store.share("e", "a", held=0, want=0, total=8) == 0
        assert await store.share("e", "b", held=7, want=50, total=8) == 8

    async def test_many_have_equal_parts_in_the_end(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        parts = dict.fromkeys("abc", 0)
        for _ in range(3):
            for owner in parts:
                parts[owner] = await store.share("e", owner, held=0, want=50, total=8)
                assert sum(parts.values()) <= 8
        assert sorted(parts.values()) == [2, 3, 3]

    async def test_shares_never_exceed_the_total(self, shards_factory: ShardsFactory) -> None:
        stores = [await shards_factory(PLAN) for _ in range(2)]
        dice = random.Random(5)  # noqa: S311 - who asks for what
        parts = dict.fromkeys("abcde", 0)
        for _ in range(200):
            owner = dice.choice("abcde")
            held = dice.randint(0, parts[owner])
            got = await dice.choice(stores).share("e", owner, held=held, want=dice.choice((0, 1, 3, 50)), total=8)
            assert got >= held
            parts[owner] = got
            assert sum(parts.values()) <= 8

    async def test_the_share_of_a_dead_one_is_free_when_its_lease_is_over(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(SHORT), await shards_factory()
        assert await store.share("e", "dead", held=0, want=50, total=8) == 8
        assert await other.share("e", "b", held=0, want=50, total=8) == 0
        await asyncio.sleep(1.3 * LEASE_S)
        assert await other.share("e", "b", held=0, want=50, total=8) == 8


class AnswerContract:
    """Calls of pure tools that are made once."""

    async def test_one_process_makes_a_call_and_all_have_its_answer(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        assert await store.find_answer("k\0") is None
        begun = await asyncio.gather(*((store, other)[n % 2].begin_answer("k\0", f"{n % 2}") for n in range(6)))
        assert sum(begun) == 1
        owner = str(begun.index(True) % 2)
        waiting = [asyncio.create_task(each.await_answer("k\0", 2 * SOON_S)) for each in (store, other, other)]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        await store.end_answer("k\0", owner, b"\x00\xff")
        async with asyncio.timeout(SOON_S):
            assert await asyncio.gather(*waiting) == [b"\x00\xff"] * 3
        assert await other.find_answer("k\0") == b"\x00\xff"
        assert await other.begin_answer("k\0", "c") is False
        await other.end_answer("k\0", "c", b"another")
        assert await store.find_answer("k\0") == b"\x00\xff"

    async def test_a_call_that_failed_is_made_by_another_one(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        assert await store.begin_answer("k", "a")
        waiting = asyncio.create_task(other.await_answer("k", 2 * SOON_S))
        await asyncio.sleep(0.1)
        await store.end_answer("k", "a", None)
        async with asyncio.timeout(SOON_S):
            assert await waiting is None
        assert await other.find_answer("k") is None
        assert await other.begin_answer("k", "b")
        await store.end_answer("k", "a", None)  # not its call any more
        assert not await store.begin_answer("k", "a")

    async def test_waiting_for_an_answer_has_an_end(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        assert await store.await_answer("nobody's", SOON_S) is None
        assert await store.begin_answer("k", "a")
        began = asyncio.get_running_loop().time()
        assert await store.await_answer("k", 0.2) is None
        assert 0.2 <= asyncio.get_running_loop().time() - began < SOON_S

    async def test_a_call_that_lasts_longer_than_a_lease_is_made_once(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(SHORT), await shards_factory()
        assert await store.begin_answer("k", "a")
        for _ in range(4):
            assert await other.await_answer("k", LEASE_S / 2) is None
            assert not await other.begin_answer("k", "b")
        await store.aclose()  # its process is gone
        async with asyncio.timeout(SOON_S):
            assert await other.await_answer("k", 2 * SOON_S) is None
        assert await other.begin_answer("k", "b")

    async def test_an_answer_is_forgotten_after_its_time(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        assert await store.begin_answer("k", "a")
        await store.end_answer("k", "a", b"1", ttl_s=0.3)
        assert await store.find_answer("k") == b"1"
        await asyncio.sleep(0.5)
        assert await store.find_answer("k") is None
        assert await store.begin_answer("k", "a")
