"""The tally counts what a closing summary needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import CallCancelledError, InvalidOutputError, ServerError
from aurora_swarm.telemetry.tally import Tally
from aurora_swarm.values.event import AgentEnded, AgentStarted, Event, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage

SPENT = Usage(prompt_tokens=100, completion_tokens=20, cached_tokens=60)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def ok(index: int = 0, *, resumed: bool = False, repaired: bool = False) -> AgentEnded:
    result = AgentResult[object](
        index, "key", True, "yes", None, attempts=2, usage=SPENT, resumed=resumed, repaired=repaired
    )
    return AgentEnded(result)


def failed(error: ServerError | InvalidOutputError | CallCancelledError) -> AgentEnded:
    return AgentEnded(AgentResult[object](0, "key", False, None, error, attempts=4, usage=Usage(10)))


def tally_of(*events: Event, clock: Clock | None = None) -> Tally:
    tally = Tally(clock or Clock())
    for event in events:
        tally.emit(event)
    return tally


START = RunStarted(4, ("http://a:1",), "model")


def test_before_anything_happened_all_is_zero() -> None:
    now = Tally(Clock()).snapshot()
    assert (now.total, now.started, now.ok, now.ended, now.failed, now.elapsed_s) == (None, 0, 0, 0, {}, 0.0)
    assert (now.first_at, now.last_at, now.eta_s, now.cache_hit_ratio, now.running) == (None, None, None, None, False)


def test_counts_agents_by_how_they_ended() -> None:
    events = (ok(0), ok(1), failed(ServerError("a")), failed(ServerError("b")), failed(InvalidOutputError("c")))
    now = tally_of(START, *(AgentStarted(i) for i in range(6)), *events).snapshot()
    assert (now.total, now.started, now.ok, now.ended) == (4, 6, 2, 5)
    assert now.failed == {"server": 2, "invalid_output": 1}


def test_adds_up_tokens_and_attempts_of_failures_too() -> None:
    now = tally_of(START, ok(0), ok(1, repaired=True), failed(ServerError("a"))).snapshot()
    assert now.usage == Usage(210, 40, 120)
    assert (now.attempts, now.repaired) == (8, 1)


def test_a_resumed_agent_is_ok_and_spent_nothing() -> None:
    now = tally_of(START, ok(0, resumed=True, repaired=True)).snapshot()
    assert (now.ok, now.resumed, now.ended) == (1, 1, 1)
    assert (now.usage, now.attempts, now.repaired) == (Usage(), 0, 0)


def test_counts_tool_calls_asked_and_executed() -> None:
    shared = ToolEnded(1, "lookup", executed=False, ok=True, latency_s=0.1)
    now = tally_of(START, ToolEnded(0, "lookup", executed=True, ok=True, latency_s=0.1), shared, shared).snapshot()
    assert (now.tools_asked, now.tools_executed) == (3, 1)


def test_a_cancelled_agent_is_no_failure() -> None:
    now = tally_of(START, failed(CallCancelledError("stopped"))).snapshot()
    assert (now.cancelled, now.failed, now.ended) == (1, {}, 1)


def test_a_cancelled_run_cancels_the_agents_under_way() -> None:
    started = (AgentStarted(i) for i in range(3))
    now = tally_of(START, *started, ok(0), RunEnded(cancelled=True)).snapshot()
    assert (now.cancelled, now.ended, now.running, now.eta_s) == (2, 3, False, None)


def test_rates_and_time_left_follow_the_clock() -> None:
    clock = Clock()
    tally = tally_of(START, clock=clock)
    clock.now += 10
    tally.emit(ok(0))
    now = tally.snapshot()
    assert (now.elapsed_s, now.agents_per_s, now.tokens_per_s, now.eta_s) == (10.0, 0.1, 2.0, pytest.approx(30.0))
    clock.now += 10
    assert (tally.snapshot().agents_per_s, tally.snapshot().eta_s) == (0.05, pytest.approx(60.0))
    assert (tally.snapshot().first_at, tally.snapshot().last_at) == (1_000.0, 1_010.0)


def test_the_clock_stops_with_the_run() -> None:
    clock = Clock()
    tally = tally_of(START, clock=clock)
    clock.now += 5
    tally.emit(RunEnded())
    clock.now += 100
    assert (tally.snapshot().elapsed_s, tally.snapshot().running) == (5.0, False)


def test_resumed_agents_do_not_raise_the_rate() -> None:
    clock = Clock()
    tally = tally_of(START, ok(0, resumed=True), ok(1, resumed=True), clock=clock)
    clock.now += 10
    assert (tally.snapshot().agents_per_s, tally.snapshot().eta_s) == (0.0, None)
    tally.emit(ok(2))
    assert tally.snapshot().eta_s == pytest.approx(10.0)


@pytest.mark.parametrize(("total", "eta_s"), [(None, None), (1, 0.0), (0, 0.0)])
def test_time_left_where_it_is_unknown_or_nothing(total: int | None, eta_s: float | None) -> None:
    assert tally_of(RunStarted(total, (), ""), ok(0)).snapshot().eta_s == eta_s


def test_the_share_of_cached_prompt_tokens() -> None:
    assert tally_of(START, ok(0), ok(1)).snapshot().cache_hit_ratio == 0.6


def test_a_snapshot_does_not_change_afterwards() -> None:
    tally = tally_of(START, failed(ServerError("a")))
    before = tally.snapshot()
    tally.emit(failed(ServerError("b")))
    assert before.failed == {"server": 1}


def timed(latency_s: float, ttft_s: float | None = None, **other: int | bool) -> AgentEnded:
    return AgentEnded(
        AgentResult[object](0, "key", True, "yes", None, latency_s=latency_s, ttft_s=ttft_s, **other)  # type: ignore[arg-type]
    )


def test_times_of_agents_and_of_first_tokens_are_spread() -> None:
    now = tally_of(START, timed(1.0, 0.1), timed(2.0, 0.3), timed(30.0)).snapshot()
    assert now.latency is not None
    assert now.ttft is not None
    assert (now.latency.count, now.latency.most_s) == (3, 30.0)
    assert now.latency.median_s == pytest.approx(2.0, rel=0.01)
    assert (now.ttft.count, now.ttft.most_s) == (2, 0.3)


def test_without_streams_nothing_is_known_of_first_tokens() -> None:
    assert tally_of(START, timed(1.0)).snapshot().ttft is None


def test_a_resumed_agent_took_no_time() -> None:
    assert tally_of(START, timed(1.0, 0.1, resumed=True)).snapshot().latency is None


def test_effects_in_doubt_are_counted_whenever_they_were_begun() -> None:
    assert tally_of(START, timed(1.0, in_doubt=2), timed(1.0, in_doubt=1, resumed=True)).snapshot().in_doubt == 3


def test_turns_tell_which_requests_were_sent_again() -> None:
    now = tally_of(START, timed(1.0, turns=2, attempts=3), timed(1.0, turns=1, attempts=1)).snapshot()
    assert (now.attempts, now.turns) == (4, 3)


def test_the_model_is_the_one_that_the_run_asks_for() -> None:
    assert (Tally(Clock()).snapshot().model, tally_of(START).snapshot().model) == ("", "model")


ENDS = st.sampled_from([ok(), ok(resumed=True), failed(ServerError("a")), failed(CallCancelledError("b"))])


@given(st.lists(ENDS, max_size=20), st.booleans())
def test_every_started_agent_is_counted_once_when_the_run_has_been_cancelled(
    ends: list[AgentEnded], one_more: bool
) -> None:
    starts = [AgentStarted(i) for i in range(len(ends) + one_more)]
    now = tally_of(START, *starts, *ends, RunEnded(cancelled=True)).snapshot()
    assert now.ended == now.started == len(starts)
