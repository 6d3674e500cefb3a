"""What a server is like."""

from __future__ import annotations

import random
import statistics

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.testing.fleet import ServerPlan


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_s": -1.0},
        {"latency_s": float("nan")},
        {"per_token_s": float("inf")},
        {"capacity": 0},
        {"speed": 0.0},
        {"max_context": 0},
        {"max_queue": -1},
    ],
)
def test_numbers_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        ServerPlan(**wrong)


def test_a_full_server_is_slower_by_its_slowdown():
    plan = ServerPlan(per_token_s=0.01, capacity=8, batch_slowdown=1.0)
    assert plan.token_s(1) == pytest.approx(0.01)
    assert plan.token_s(8) == pytest.approx(0.01 * (1 + 7 / 8))


def test_above_its_limit_more_load_gives_fewer_tokens():
    plan = ServerPlan(per_token_s=0.01, capacity=64, thrash_above=16)
    goodput = [load / plan.token_s(load) for load in (8, 16, 32, 64)]
    assert goodput[0] < goodput[1]
    assert goodput[1] > goodput[2] > goodput[3]


@pytest.mark.parametrize("spread", ["constant", "uniform", "lognormal"])
def test_lengths_vary_as_planned_around_the_number(spread):
    plan, dice = ServerPlan(tokens=50, spread=spread), random.Random(1)
    drawn = [plan.draw_tokens(None, dice)[0] for _ in range(4000)]
    assert statistics.median(drawn) == pytest.approx(50, rel=0.1)
    assert (len(set(drawn)) == 1) is (spread == "constant")
    assert min(drawn) >= 1


def test_a_request_may_allow_fewer_tokens():
    assert ServerPlan(tokens=50).draw_tokens(10, random.Random(1)) == (10, True)
    assert ServerPlan(tokens=50).draw_tokens(50, random.Random(1)) == (50, False)
