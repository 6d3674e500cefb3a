"""What every `aurora_swarm.ports.shards.ShardStore` must do, as tests to inherit. Needs pytest and pytest-asyncio.

Inherit `ShardsContract`, give it one fixture, and let pytest find it::

    class TestMyShards(ShardsContract):
        @pytest.fixture
        async def shards_factory(self):
            async with AsyncExitStack() as stack:
                async def factory(plan=None):  # as another process would open the same run of this test
                    store = await MyStore.open("my://place", run="run", plan=plan)
                    stack.push_async_callback(store.aclose)
                    return store
                yield factory
"""

from __future__ import annotations

import asyncio
import random

import pytest

from aurora_swarm.errors import FencedError, StorageError, UsageError
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.testing.shards_contract_shared import AnswerContract, OutputContract, ShareContract
from aurora_swarm.testing.shards_samples import (
    LEASE_S,
    ODD_KEYS,
    ODD_PAYLOADS,
    PLAN,
    SHORT,
    SOON_S,
    ShardsFactory,
    all_outputs,
    claimed,
    job,
    jobs_of,
    keys_of,
)
from aurora_swarm.values.shard import Batch, Job, Result, RunPlan, Turn, shard_of


class _RunContract:
    """Runs, jobs and progress."""

    async def test_who_opens_a_run_first_says_what_its_plan_is(self, shards_factory: ShardsFactory) -> None:
        first = await shards_factory(PLAN)
        second = await shards_factory(RunPlan(run="run", shards=9, digest="d2"))
        third = await shards_factory()
        assert first.plan == second.plan == third.plan == PLAN

    async def test_a_run_that_nobody_made_is_refused(self, shards_factory: ShardsFactory) -> None:
        with pytest.raises(UsageError) as caught:
            await shards_factory()
        assert caught.value.remedy

    async def test_a_job_is_put_in_once(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        (one, two, three) = jobs_of(1, 3)
        assert await store.admit([]) == 0
        assert await store.admit([one, two, one]) == 2
        assert await other.admit([Job(one.key, 77, b"another"), three]) == 1
        claim = await claimed(store, 1)
        assert [unfinished.job for unfinished in await store.load(claim, 10)] == [one, two, three]

    async def test_a_job_that_has_a_result_is_not_put_in_again(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        (one,) = jobs_of(1, 1)
        await store.admit([one])
        claim = await claimed(store, 1)
        await store.apply(claim, Batch(results=[Result(one.key, b"r")]))
        assert await store.admit([one]) == 0
        assert await keys_of(store, claim) == []
        assert len(await all_outputs(store)) == 1

    async def test_progress_is_that_of_all(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        before = await store.progress()
        assert (before.admitted, before.finished, before.whole, before.owned) == (0, 0, False, {})
        await store.admit([*jobs_of(0, 3), *jobs_of(1, 2)])
        first, _, _ = await claimed(other, 0, "a"), await claimed(other, 1, "a"), await claimed(store, 2, "b")
        await other.apply(first, Batch(results=[Result(each.key, b"") for each in jobs_of(0, 2)]))
        await other.close_admission()
        await other.close_admission()
        after = await store.progress()
        assert (after.admitted, after.finished, after.whole, after.owned) == (5, 2, True, {"a": 2, "b": 1})
        await other.release(first)
        assert (await store.progress()).owned == {"a": 1, "b": 1}

    async def test_a_run_that_was_whole_is_not_while_more_jobs_are_to_come(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        await store.open_admission()
        await store.close_admission()
        assert (await other.progress()).whole
        await store.open_admission()
        assert not (await other.progress()).whole
        await store.close_admission()
        assert (await other.progress()).whole

    @pytest.mark.parametrize("key", ODD_KEYS, ids=lambda key: ascii(key[:12]))
    async def test_it_gives_back_exactly_what_it_was_given(self, shards_factory: ShardsFactory, key: str) -> None:
        store = await shards_factory(PLAN)
        odd, shard = Job(key, 2**40, bytes(range(256))), shard_of(key, PLAN.shards)
        await store.admit([odd])
        claim = await claimed(store, shard, "\u00f6 host, process 1")
        turns = [Turn(key, version, payload) for version, payload in enumerate(ODD_PAYLOADS)]
        await store.apply(claim, Batch(begun=[key], turns=turns))
        (unfinished,) = await store.load(claim, 10)
        assert (unfinished.job, unfinished.turns) == (odd, ODD_PAYLOADS)
        assert await keys_of(store, claim, skip=[key]) == []
        await store.apply(claim, Batch(results=[Result(key, ODD_PAYLOADS[1])]))
        (output,) = await all_outputs(store)
        assert (output.index, output.result) == (2**40, Result(key, ODD_PAYLOADS[1]))

    async def test_it_may_be_closed_twice_and_is_refused_then(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        await store.aclose()
        await store.aclose()
        for call in (store.progress(), store.admit([job(1)]), store.claim(0, "a"), store.outputs(wait_s=SOON_S)):
            with pytest.raises(StorageError):
                await call


class _ClaimContract:
    """Who owns a shard."""

    async def test_a_shard_has_one_owner(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        await store.admit(jobs_of(2, 3))
        first = await claimed(store, 2, "a")
        assert await other.claim(2, "b") is None
        await claimed(other, 3, "b")
        assert await keys_of(store, first) == [each.key for each in jobs_of(2, 3)]

    async def test_of_many_who_claim_at_once_one_gets_it(self, shards_factory: ShardsFactory) -> None:
        stores = [await shards_factory(PLAN) for _ in range(3)]
        claims = await asyncio.gather(*(store.claim(0, f"{n}") for n, store in enumerate(stores * 4)))
        assert sum(claim is not None for claim in claims) == 1

    async def test_a_forced_claim_fences_the_one_before(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        one, two = jobs_of(2, 2)
        await store.admit([one, two])
        stale = await claimed(store, 2, "a")
        fresh = await claimed(other, 2, "b", force=True)
        assert fresh.epoch > stale.epoch
        with pytest.raises(FencedError) as caught:
            await store.apply(
                stale, Batch(begun=[one.key], turns=[Turn(one.key, 0, b"")], results=[Result(two.key, b"")])
            )
        assert caught.value.remedy
        with pytest.raises(FencedError):
            await store.load(stale, 10)
        with pytest.raises(FencedError):
            await store.apply(stale, Batch())
        await store.release(stale)
        assert await store.claim(2, "c") is None
        found = await other.load(fresh, 10)
        assert [(each.job, each.turns, each.attempts) for each in found] == [(one, (), 0), (two, (), 0)]
        assert await all_outputs(other) == []

    async def test_an_owner_may_claim_its_own_shard_anew(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        older = await claimed(store, 2, "a")
        newer = await claimed(store, 2, "a")
        with pytest.raises(FencedError):
            await store.apply(older, Batch())
        await store.apply(newer, Batch())

    async def test_what_is_given_back_can_be_claimed_at_once(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        first = await claimed(store, 2, "a")
        await store.release(first)
        await store.release(first)
        with pytest.raises(FencedError):
            await store.apply(first, Batch())
        second = await claimed(other, 2, "b")
        assert second.epoch > first.epoch
        await store.release(first)
        await other.apply(second, Batch())

    async def test_a_lease_that_is_renewed_is_kept(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(SHORT), await shards_factory()
        claim = await claimed(store, 2, "a")
        for _ in range(12):
            await asyncio.sleep(LEASE_S / 8)
            await store.apply(claim, Batch())
            assert await other.claim(2, "b") is None

    async def test_a_lease_that_is_over_can_be_taken_over(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(SHORT), await shards_factory()
        await store.admit(jobs_of(2, 2, SHORT.shards))
        stale = await claimed(store, 2, "a")
        await asyncio.sleep(1.3 * LEASE_S)
        assert (await store.progress()).owned == {}
        fresh = await other.claim_any("b")
        assert fresh is not None
        assert (fresh.shard, fresh.owner) == (2, "b")
        with pytest.raises(FencedError):  # it was paused, and writes late
            await store.apply(stale, Batch(results=[Result(jobs_of(2, 1)[0].key, b"late")]))
        assert await all_outputs(other) == []

    async def test_a_late_owner_goes_on_where_nobody_took_over(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(SHORT), await shards_factory()
        await store.admit(jobs_of(2, 2, SHORT.shards))
        claim = await claimed(store, 2, "a")
        await asyncio.sleep(1.3 * LEASE_S)
        await store.apply(claim, Batch(results=[Result(jobs_of(2, 1)[0].key, b"late")]))
        assert await other.claim(2, "b") is None
        assert await other.claim_any("b") is None
        assert len(await all_outputs(other)) == 1

    async def test_any_shard_that_has_work_is_claimed_once(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        assert await store.claim_any("a") is None
        await store.admit([*jobs_of(0, 2), *jobs_of(1, 1), *jobs_of(3, 1)])
        claims = await asyncio.gather(*((store, other)[n % 2].claim_any(f"{n % 2}") for n in range(8)))
        assert sorted(claim.shard for claim in claims if claim) == [0, 1, 3]

    async def test_a_shard_that_is_finished_is_not_claimed_until_it_has_work(
        self, shards_factory: ShardsFactory
    ) -> None:
        store = await shards_factory(PLAN)
        one, two = jobs_of(1, 2)
        await store.admit([one])
        claim = await store.claim_any("a")
        assert claim is not None
        await store.apply(claim, Batch(results=[Result(one.key, b"")]))
        await store.release(claim)
        assert await store.claim_any("a") is None
        await store.admit([two])
        assert await store.claim_any("a") is not None

    async def test_work_that_comes_to_a_shard_with_an_owner_is_loaded_by_it(
        self, shards_factory: ShardsFactory
    ) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        claim = await claimed(store, 1)
        await other.admit(jobs_of(1, 2))
        assert await other.claim_any("b") is None
        assert await keys_of(store, claim) == [each.key for each in jobs_of(1, 2)]


class _WorkContract:
    """What is loaded and written."""

    async def test_jobs_are_loaded_in_order_and_within_a_limit(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        jobs = jobs_of(1, 30)
        for each in reversed(jobs):
            await store.admit([each])
        keys = [each.key for each in reversed(jobs)]
        claim = await claimed(store, 1)
        assert await keys_of(store, claim, 100) == keys
        assert await keys_of(store, claim, 7) == keys[:7]
        assert await keys_of(store, claim, 7, keys[2:9]) == [*keys[:2], *keys[9:14]]
        assert await keys_of(store, claim, 7, [*keys, "unknown"]) == []
        await store.apply(claim, Batch(results=[Result(key, b"") for key in keys[1:5]]))
        assert await keys_of(store, claim, 3) == [keys[0], *keys[5:7]]

    async def test_more_is_written_and_loaded_than_fits_one_answer(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        jobs = [Job(f"job-{n}", n, b"x" * 500) for n in range(6_000)]
        assert await store.admit(jobs) == 6_000
        claim = await claimed(store, 0)
        mine = [each for each in jobs if shard_of(each.key, PLAN.shards) == 0]
        turns = [Turn(each.key, version, b"t" * 100) for each in mine for version in (0, 1)]
        await store.apply(claim, Batch(begun=[each.key for each in mine], turns=turns))
        loaded = await store.load(claim, 10_000)
        assert [each.job for each in loaded] == mine
        assert {each.turns for each in loaded} == {(b"t" * 100,) * 2}
        await store.apply(claim, Batch(results=[Result(each.key, each.payload) for each in mine]))
        assert [output.index for output in await all_outputs(store, 1_000)] == [each.index for each in mine]
        assert (await store.progress()).finished == len(mine)

    async def test_an_agent_is_found_in_mid_conversation(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        one, two = jobs_of(1, 2)
        await store.admit([one, two])
        claim = await claimed(store, 1)
        await store.apply(claim, Batch(turns=[Turn(two.key, 0, b"0")]))
        await store.apply(claim, Batch(turns=[Turn(one.key, 0, b"a"), Turn(two.key, 1, b"1")]))
        fresh = await claimed(other, 1, "b", force=True)
        assert {u.job.key: u.turns for u in await other.load(fresh, 10)} == {one.key: (b"a",), two.key: (b"0", b"1")}

    async def test_many_turns_stay_in_their_order_and_end_at_a_gap(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        (one,) = jobs_of(1, 1)
        await store.admit([one])
        claim = await claimed(store, 1)
        versions = [*range(25), 26, 27]
        random.Random(3).shuffle(versions)  # noqa: S311 - an order
        await store.apply(claim, Batch(turns=[Turn(one.key, version, b"%d" % version) for version in versions]))
        (unfinished,) = await store.load(claim, 1)
        assert unfinished.turns == tuple(b"%d" % version for version in range(25))

    async def test_the_first_write_of_a_turn_wins(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        (one,) = jobs_of(1, 1)
        await store.admit([one])
        claim = await claimed(store, 1)
        await store.apply(claim, Batch(turns=[Turn(one.key, 0, b"first"), Turn(one.key, 0, b"second")]))
        await store.apply(claim, Batch(turns=[Turn(one.key, 0, b"third")]))
        fresh = await claimed(other, 1, "b", force=True)
        await other.apply(fresh, Batch(turns=[Turn(one.key, 0, b"fourth"), Turn(one.key, 1, b"next")]))
        assert [each.turns for each in await other.load(fresh, 1)] == [(b"first", b"next")]

    async def test_the_first_result_of_a_job_wins(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        one, two = jobs_of(1, 2)
        await store.admit([one, two])
        claim = await claimed(store, 1)
        await store.apply(claim, Batch(results=[Result(one.key, b"first"), Result(one.key, b"second")]))
        fresh = await claimed(other, 1, "b", force=True)
        late = [Result(one.key, b"third"), Result(two.key, b"other")]
        await other.apply(fresh, Batch(begun=[one.key], turns=[Turn(one.key, 5, b"")], results=late))
        assert [(o.index, o.result.payload) for o in await all_outputs(store)] == [
            (one.index, b"first"),
            (two.index, b"other"),
        ]
        assert (await store.progress()).finished == 2

    async def test_writes_of_many_tasks_are_all_done(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        jobs = [each for shard in range(4) for each in jobs_of(shard, 25)]
        await store.admit(jobs)
        claims = [await claimed(store, shard) for shard in range(4)]

        async def one(each: Job) -> None:
            claim = claims[shard_of(each.key, PLAN.shards)]
            await store.apply(claim, Batch(begun=[each.key]))
            await store.apply(claim, Batch(turns=[Turn(each.key, 0, each.payload)]))
            await store.apply(claim, Batch(results=[Result(each.key, each.payload)]))
            assert each.index in {output.index for output in await store.outputs(limit=1_000)}

        await asyncio.gather(*map(one, jobs))
        outputs = await all_outputs(store, 1_000)
        assert sorted((o.index, o.result.payload) for o in outputs) == sorted(
            (each.index, each.payload) for each in jobs
        )

    async def test_a_cancelled_write_is_whole_or_not_there(self, shards_factory: ShardsFactory) -> None:
        store = await shards_factory(PLAN)
        jobs = jobs_of(1, 120)
        await store.admit(jobs)
        claim = await claimed(store, 1)
        pairs = list(zip(jobs[::2], jobs[1::2], strict=True))
        tasks = [
            asyncio.create_task(store.apply(claim, Batch(results=[Result(each.key, b"") for each in pair])))
            for pair in pairs
        ]
        dice = random.Random(7)  # noqa: S311 - which tasks are cancelled
        for task in dice.sample(tasks, 40):
            await asyncio.sleep(dice.choice((0, 0, 0.001)))
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await store.aclose()
        done = {output.index for output in await all_outputs(await shards_factory(), 1_000)}
        for pair, end in zip(pairs, ended, strict=True):
            assert end is None or isinstance(end, asyncio.CancelledError)
            there = len(done & {each.index for each in pair})
            assert there == 2 if end is None else there in {0, 2}

    async def test_an_attempt_counts_once_its_owner_has_lost_the_shard(self, shards_factory: ShardsFactory) -> None:
        store, other = await shards_factory(PLAN), await shards_factory(PLAN)
        one, two = jobs_of(1, 2)
        await store.admit([one, two])
        for attempts in range(3):
            claim = await claimed((store, other)[attempts % 2], 1, f"{attempts}", force=True)
            assert [each.attempts for each in await store.load(claim, 10)] == [attempts, 0]
            await store.apply(claim, Batch(begun=[one.key]))
            await store.apply(claim, Batch(begun=[one.key]))
            assert [each.attempts for each in await store.load(claim, 10)] == [attempts, 0]

    async def test_an_attempt_whose_owner_gave_the_shard_back_does_not_count(
        self, shards_factory: ShardsFactory
    ) -> None:
        store = await shards_factory(PLAN)
        (one,) = jobs_of(1, 1)
        await store.admit([one])
        lost = await claimed(store, 1, "a")
        await store.apply(lost, Batch(begun=[one.key]))
        given = await claimed(store, 1, "b", force=True)
        await store.apply(given, Batch(begun=[one.key]))
        await store.release(given)
        third = await claimed(store, 1, "c")
        assert [each.attempts for each in await store.load(third, 10)] == [1]

    async def test_whoever_is_killed_loses_and_doubles_nothing(self, shards_factory: ShardsFactory) -> None:
        stores = [await shards_factory(PLAN) for _ in range(3)]
        jobs = [job(n) for n in range(80)]
        await stores[0].admit(jobs)
        dice = random.Random(11)  # noqa: S311 - who dies when

        async def own(store: ShardStore, shard: int, name: str) -> None:
            claim = await claimed(store, shard, name, force=True)
            for unfinished in await store.load(claim, 100):
                key, turns = unfinished.job.key, len(unfinished.turns)
                for version in range(turns, 3):
                    await asyncio.sleep(dice.random() / 500)
                    await store.apply(claim, Batch(turns=[Turn(key, version, name.encode())]))
                await store.apply(claim, Batch(results=[Result(key, unfinished.job.payload)]))

        for life in range(30):
            owners = [asyncio.create_task(own(stores[life % 3], dice.randrange(4), f"{life}-{n}")) for n in range(4)]
            await asyncio.wait(owners, timeout=dice.random() / 50)
            for owner in owners:
                owner.cancel()
            for end in await asyncio.gather(*owners, return_exceptions=True):
                assert end is None or isinstance(end, FencedError | asyncio.CancelledError)
        await asyncio.gather(*(own(stores[0], shard, "last") for shard in range(4)))
        for store in stores:
            outputs = await all_outputs(store)
            assert sorted((o.index, o.result.payload) for o in outputs) == [(each.index, each.payload) for each in jobs]


class ShardsContract(_RunContract, _ClaimContract, _WorkContract, OutputContract, ShareContract, AnswerContract):
    """The contract of `ShardStore`."""
