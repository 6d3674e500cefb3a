"""How long sequences take, in virtual time: exactly what the plan says."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from aurora_swarm.testing.fleet import ServerPlan
from aurora_swarm.testing.fleet.counts import Tally
from aurora_swarm.testing.fleet.engine import Sequence, SimulatedEngine
from aurora_swarm.testing.virtual_time import run_virtual


class Watch:
    """Notes when sequences end, and when their tokens come."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.tokens: list[float] = []

    def token(self, sequence: Sequence) -> None:
        self.tokens.append(asyncio.get_running_loop().time())

    def finished(self, sequence: Sequence) -> None:
        self.ends.append(asyncio.get_running_loop().time())


def run(plan: ServerPlan, *, count: int = 1, tokens: int = 10, prompt: str = "", **options: Any) -> tuple[Watch, Tally]:
    watch, tally = Watch(), Tally()

    async def main() -> None:
        engine = SimulatedEngine(plan, tally, random.Random(0))
        for index in range(count):
            engine.submit(Sequence(watch, index, prompt, tokens, **options))
        await asyncio.sleep(1000)

    run_virtual(main())
    return watch, tally


def near(*times: float) -> Any:
    return pytest.approx(list(times), abs=1e-3)


def test_a_sequence_takes_its_latency_its_prompt_and_its_tokens():
    plan = ServerPlan(latency_s=1.0, prefill_per_token_s=0.1, per_token_s=0.2)
    assert run(plan, prompt="x" * 40)[0].ends == near(1 + 10 * 0.1 + 10 * 0.2)


def test_everything_is_faster_with_more_speed_and_slower_with_a_fault():
    plan = ServerPlan(latency_s=1.0, per_token_s=0.1, speed=2.0)
    assert run(plan)[0].ends == near(1.0)
    assert run(plan, factor=10.0)[0].ends == near(10.0)


def test_what_does_not_fit_waits():
    watch, tally = run(ServerPlan(capacity=2, latency_s=1.0), count=5)
    assert watch.ends == near(1, 1, 2, 2, 3)
    assert (tally.most_running, tally.most_queued) == (2, 3)


def test_sequences_that_share_an_engine_are_slower_by_its_slowdown():
    plan = ServerPlan(capacity=4, per_token_s=0.1, batch_slowdown=2.0)
    assert run(plan)[0].ends == near(1.0)
    assert run(plan, count=4)[0].ends == near(*[2.5] * 4)


def test_who_ends_makes_room_for_the_others_speed():
    plan = ServerPlan(capacity=2, per_token_s=0.1, batch_slowdown=2.0)  # 0.2 s a token for two, 0.1 s for one
    watch, tally = Watch(), Tally()

    async def main() -> None:
        engine = SimulatedEngine(plan, tally, random.Random(0))
        engine.submit(Sequence(watch, 0, "", 10))
        engine.submit(Sequence(watch, 1, "", 20))
        await asyncio.sleep(100)

    run_virtual(main())
    assert watch.ends == near(2.0, 3.0)


def test_above_its_limit_a_server_thrashes():
    plan = ServerPlan(capacity=8, per_token_s=0.1, thrash_above=4)
    assert run(plan, count=4)[0].ends == near(*[1.0] * 4)
    assert run(plan, count=8)[0].ends == near(*[4.0] * 8)


def test_streamed_tokens_come_one_by_one():
    watch, _ = run(ServerPlan(latency_s=1.0, per_token_s=0.5), tokens=3, streamed=True)
    assert watch.tokens == near(1.5, 2.0, 2.5)
    assert watch.ends == near(2.5)


def test_a_cached_prompt_is_not_computed_again():
    plan = ServerPlan(capacity=1, prefill_per_token_s=0.01)
    watch, tally = run(plan, count=2, prompt="y" * 6400)
    assert watch.ends == near(16.0, 16.0)
    assert (tally.prefix_computations, tally.cached_tokens) == (1, 1600)


def test_a_cancelled_sequence_makes_room_and_the_others_are_faster():
    plan = ServerPlan(capacity=2, per_token_s=0.1, batch_slowdown=2.0)
    watch, tally = Watch(), Tally()

    async def main() -> None:
        engine = SimulatedEngine(plan, tally, random.Random(0))
        sequences = [Sequence(watch, index, "", 10) for index in range(3)]
        for sequence in sequences:
            engine.submit(sequence)
        engine.cancel(sequences[2])
        await asyncio.sleep(1.0)  # five tokens each
        engine.cancel(sequences[1])
        engine.cancel(sequences[1])
        await asyncio.sleep(100)

    run_virtual(main())
    assert watch.ends == near(1.5)
    assert (tally.running, tally.queued, tally.sequences, tally.completed) == (0, 0, 2, 1)


def test_a_slower_plan_counts_from_when_it_is_set():
    watch, tally = Watch(), Tally()

    async def main() -> None:
        plan = ServerPlan(capacity=2, per_token_s=0.1, batch_slowdown=1e-9)
        engine = SimulatedEngine(plan, tally, random.Random(0))
        engine.submit(Sequence(watch, 0, "", 10))
        await asyncio.sleep(0.5)
        engine.set_plan(ServerPlan(capacity=2, per_token_s=0.4, batch_slowdown=1e-9))
        await asyncio.sleep(100)

    run_virtual(main())
    assert watch.ends == near(0.5 + 5 * 0.4)


@pytest.mark.parametrize("queued", [0, 1, 3])
def test_a_bounded_queue_says_when_it_is_full(queued):
    watch, tally = Watch(), Tally()

    async def main() -> None:
        engine = SimulatedEngine(ServerPlan(capacity=2, latency_s=1.0, max_queue=queued), tally, random.Random(0))
        for index in range(2 + queued):
            assert engine.has_room(1)
            engine.submit(Sequence(watch, index, "", 1))
        assert not engine.has_room(1)
        await asyncio.sleep(10)

    run_virtual(main())
    assert len(watch.ends) == 2 + queued
