"""Steady load, and the fleet goes away, flaps, restarts, slows down or asks for patience; in virtual time."""

import itertools

import pytest

from aurora_swarm.dispatch.dispatcher import Limits
from aurora_swarm.dispatch.windows import START
from aurora_swarm.errors import DeadlineError, RequestRejectedError
from aurora_swarm.testing.simulation import EndpointPlan, Fault
from aurora_swarm.values.policy import HedgePolicy

SIZE = 16
START_S, END_S = 30.0, 90.0
"""The outage."""


def fleet(*faults, latency_s=1.0, capacity=4, size=SIZE):
    """64 answers a second."""
    return [EndpointPlan(latency_s=latency_s, capacity=capacity, jitter=0.2, faults=faults)] * size


OUTAGES = {
    "refused": Fault("refuse", start_s=START_S, end_s=END_S),
    "hung": Fault("hang", start_s=START_S, end_s=END_S),
    "500": Fault("server_error", start_s=START_S, end_s=END_S),
    "busy": Fault("overloaded", start_s=START_S, end_s=END_S, retry_after_s=5.0),
    "busy without a word": Fault("overloaded", start_s=START_S, end_s=END_S),
}


def test_an_outage_of_a_minute_fails_nobody_costs_few_attempts_and_is_over_in_ten_seconds(steady_load):
    load = steady_load(fleet(OUTAGES["refused"]), rate=40, seconds=150)
    assert load.failed == []
    assert load.answers_are_right()
    assert load.goodput(START_S + 5, END_S) == 0
    assert load.transport.injected.total() >= SIZE
    assert load.attempts_per_call <= 1.2
    assert load.goodput(END_S + 10, END_S + 20) >= 0.95


@pytest.mark.parametrize("fault", OUTAGES.values(), ids=OUTAGES)
def test_every_outage_is_over_within_ten_seconds_of_the_return(steady_load, fault):
    load = steady_load(fleet(fault), rate=40, seconds=150, limits=Limits(attempt_timeout_s=10.0))
    assert len(load.failed) <= 0.01 * len(load.outcomes)
    assert load.goodput(START_S + 5, END_S) <= 0.05
    assert load.answers_are_right()
    if fault.kind != "overloaded":  # who asks for patience is asked again, at no cost to the budget
        assert load.attempts_per_call <= 1.2
    assert load.goodput(END_S + 10, END_S + 20) >= 0.95


@pytest.mark.parametrize("size", [64, 128])
def test_a_fleet_that_answers_500_all_at_once_loses_no_call(steady_load, size):
    load = steady_load(fleet(OUTAGES["500"], size=size), rate=3 * size, seconds=110)
    assert load.transport.injected["server_error"] >= size
    assert load.failed == []
    assert load.attempts_per_call <= 1.2


def test_one_probe_per_endpoint_and_period(steady_load):
    load = steady_load(fleet(OUTAGES["refused"]), rate=40, seconds=120)
    for endpoint in load.fleet:
        times = [at for at, who in load.probed if who == endpoint and START_S <= at <= END_S]
        assert 5 <= len(times) <= 12
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 1.0


def test_calls_wait_for_as_long_as_their_deadline_and_no_longer(steady_load):
    load = steady_load(fleet(OUTAGES["refused"]), rate=40, seconds=120, limits=Limits(deadline_s=20.0))
    waited = [o.latency_s for o in load.failed if isinstance(o.error, DeadlineError)]
    assert len(waited) >= 20 * 40
    assert min(waited) >= 19.0
    assert max(waited) <= 25.0
    assert load.goodput(END_S + 10, END_S + 20) >= 0.95


def test_flapping_endpoints_fail_no_call(steady_load):
    flapping = [Fault("refuse", start_s=5.0 + i, period_s=6.0 + i % 3) for i in range(SIZE // 2)]
    load = steady_load(fleet()[: SIZE // 2] + [fleet(f)[0] for f in flapping], rate=25, seconds=120)
    assert load.transport.injected["refuse"] >= 50
    assert load.failed == []
    assert load.attempts_per_call <= 1.2


def test_rolling_restarts_fail_no_call(steady_load):
    plans = [fleet(Fault("refuse", start_s=10 + 8 * i, end_s=16 + 8 * i))[0] for i in range(SIZE)]
    load = steady_load(plans, rate=40, seconds=150)
    assert load.transport.injected["refuse"] >= SIZE
    assert load.failed == []
    assert load.attempts_per_call <= 1.05
    assert load.goodput(20, 140) >= 0.95


def test_half_the_fleet_slows_down_tenfold_and_the_rest_takes_over(steady_load):
    slow = fleet(Fault("slow", start_s=START_S, factor=10.0))[: SIZE // 2]
    load = steady_load(slow + fleet()[: SIZE // 2], rate=25, seconds=150)
    assert load.transport.injected["slow"] >= 20
    assert load.failed == []
    assert load.goodput(START_S + 40, START_S + 110) >= 0.95
    assert load.attempts_per_call <= 1.2


def test_a_storm_of_429_is_waited_out(steady_load):
    load = steady_load(fleet(OUTAGES["busy"]), rate=40, seconds=150)
    assert load.failed == []
    assert load.transport.injected["overloaded"] >= SIZE
    one_window_per_cool_down = (END_S - START_S) / 5 * SIZE * START
    assert load.sent(START_S + 1, END_S) <= one_window_per_cool_down


def test_bad_prompts_rest_nobody(steady_load):
    load = steady_load(
        fleet(),
        rate=40,
        seconds=60,
        prompt=lambda n: f"bad: {n}" if n % 10 == 0 else f"prompt {n}",
        watch_conditions=True,
    )
    assert len(load.failed) == 40 * 60 / 10
    assert {type(outcome.error) for outcome in load.failed} == {RequestRejectedError}
    assert all(outcome.attempts == 1 for outcome in load.failed)
    assert load.attempts_per_call <= 1.01  # the last calls race each other
    assert set(load.conditions) == {"well"}


def test_hedging_shortens_the_tail_tenfold_for_two_percent_more_requests(steady_load):
    plans = fleet(Fault("slow", rate=0.01, factor=100.0), capacity=8)
    hedged = steady_load(plans, rate=40, seconds=200)
    plain = steady_load(plans, rate=40, seconds=200, hedge=None)
    assert hedged.failed == plain.failed == []
    assert hedged.transport.injected["slow"] >= 50
    assert hedged.latency_s(0.999) * 10 <= plain.latency_s(0.999)
    assert hedged.requests - len(hedged.outcomes) <= 0.02 * len(hedged.outcomes) + HedgePolicy().budget_floor
