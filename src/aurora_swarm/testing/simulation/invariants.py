"""What must hold in every simulation. Pure: told what happened, names what should not have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from aurora_swarm.errors import (
    AttemptTimeoutError,
    CallCancelledError,
    CallError,
    DeadlineError,
    EndpointError,
    RequestRejectedError,
)
from aurora_swarm.testing.simulation.faults import ERRORS
from aurora_swarm.testing.simulation.report import Ended
from aurora_swarm.testing.simulation.scenario import Scenario
from aurora_swarm.testing.simulation.transport import SimulatedTransport, answer_to, is_bad
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.policy import HedgePolicy
from aurora_swarm.values.statistics import PoolStatistics

SLACK_S = 0.1
"""Seconds that a time limit may be overdrawn by: a timer's tick and an error on its way."""


class LimitWatch:
    """How many calls an endpoint may have, where its limit may just have been lowered.

    A slot is granted under the limit of that moment, and its request comes in the same instant of virtual time.

    Args:
        size: Number of endpoints.
        slack: Calls beyond its limit that an endpoint with one free slot may get, since some travel together.
    """

    def __init__(self, size: int, slack: int) -> None:
        self._slack = slack
        self._at = [-1.0] * size
        self._best = [1 << 30] * size
        self._last = [1 << 30] * size

    def allowed(self, index: int, limit: int, now: float) -> int:
        """The highest limit that was in force at `now`, told that it is `limit` at present."""
        fresh = self._at[index] != now
        self._best[index] = max(self._last[index] if fresh else self._best[index], limit)
        self._at[index], self._last[index] = now, limit
        return self._best[index] + self._slack


class Traffic:
    """Which requests each prompt was in."""

    def __init__(self) -> None:
        self.sent: defaultdict[str, list[int]] = defaultdict(list)
        self.answered: defaultdict[str, set[int]] = defaultdict(set)
        self.first_s: dict[str, float] = {}
        self.trials = 0

    def note(self, what: str, index: int, prompts: Sequence[str], now: float, *, on_trial: bool) -> None:
        """Something happened to a request."""
        self.trials += what == "sent" and on_trial
        for prompt in prompts:
            if what == "sent":
                self.sent[prompt].append(index)
                self.first_s.setdefault(prompt, now)
            elif what == "answered":
                self.answered[prompt].add(index)


def check_call(
    scenario: Scenario, members: Sequence[int], ended: Ended, traffic: Traffic, fleet: Sequence[AgentEndpoint]
) -> Iterator[str]:
    """What is wrong with how one thing ended.

    Args:
        scenario: What was planned.
        members: Endpoints of its view.
        ended: How it ended.
        traffic: What the endpoints saw.
        fleet: The endpoints.
    """
    if ended.crash:
        yield f"raised {ended.crash}"
        return
    if ended.cancelled != ended.was_cancelled:
        yield "ended as cancelled, and nobody had" if ended.cancelled else "swallowed its cancellation"
    if ended.cancelled:
        return
    allowed = [ended.plan.pin] if ended.plan.strict else members
    if len(ended.outcomes) != len(ended.plan.prompts):
        yield f"has {len(ended.outcomes)} outcomes for {len(ended.plan.prompts)} prompts"
        return
    for prompt, outcome in zip(ended.plan.prompts, ended.outcomes, strict=True):
        if strangers := set(traffic.sent[prompt]) - set(allowed):
            yield f"{prompt} was sent to {sorted(strangers)}, outside of its view"
        if outcome.error is None:
            yield from _check_answer(prompt, outcome, traffic, fleet)
        else:
            yield from _check_error(scenario, [i for i in allowed if i is not None], ended, prompt, outcome.error)
            yield from _check_despair(scenario, [i for i in allowed if i is not None], ended, outcome)
    if len(ended.outcomes) == 1:
        yield from _check_record(scenario, ended, traffic)


def _check_answer(prompt: str, outcome: Outcome, traffic: Traffic, fleet: Sequence[AgentEndpoint]) -> Iterator[str]:
    if outcome.reply is None:
        yield "has neither an answer nor an error"
    elif outcome.reply.text != answer_to(prompt):
        yield f"got the answer {outcome.reply.text!r}"
    if is_bad(prompt):
        yield "was answered though every endpoint rejects it"
    if outcome.endpoint not in {fleet[i] for i in traffic.answered[prompt]}:
        yield f"names {outcome.endpoint} as who answered, which did not"


def _check_error(
    scenario: Scenario, places: Sequence[int], ended: Ended, prompt: str, error: CallError
) -> Iterator[str]:
    faults = [fault for i in places for fault in scenario.endpoints[i].faults]
    explained: tuple[type[CallError], ...] = tuple(kind for fault in faults for kind in ERRORS[fault.kind])
    if is_bad(prompt):
        explained += (RequestRejectedError,)
    if ended.closed:
        explained += (CallCancelledError,)
    if not scenario.is_roomy():
        explained += (AttemptTimeoutError, DeadlineError)
    elif all(scenario.endpoints[i].faults for i in places):
        explained += (DeadlineError,)
    if not isinstance(error, explained):
        yield f"failed with {error!r}, which nothing explains"


def _check_despair(scenario: Scenario, places: Sequence[int], ended: Ended, outcome: Outcome) -> Iterator[str]:
    """A call that a sound endpoint could have answered fails only with good reason."""
    sound = any(scenario.endpoints[i].is_healthy for i in places)
    rejected = isinstance(outcome.error, RequestRejectedError)
    if not (sound and scenario.is_roomy()) or ended.closed or rejected or ended.budget_spent:
        return
    tries = sum(isinstance(attempt.error, EndpointError) for attempt in outcome.failures)
    if tries < scenario.retry.max_attempts:
        yield f"gave up after {tries} tries though an endpoint was sound: {outcome.error!r}"


def _check_record(scenario: Scenario, ended: Ended, traffic: Traffic) -> Iterator[str]:
    """The outcome of a single call lists every request, and the call kept its deadline."""
    prompt, outcome = ended.plan.prompts[0], ended.outcomes[0]
    if outcome.attempts != len(traffic.sent[prompt]) and not ended.closed:
        yield f"lists {outcome.attempts} attempts, {len(traffic.sent[prompt])} were sent"
    taken_s = ended.ended_s - traffic.first_s.get(prompt, ended.ended_s)
    if taken_s > scenario.limits.deadline_s + SLACK_S:
        yield f"took {taken_s:.3f} s from its first request, {scenario.limits.deadline_s:g} s were allowed"


def check_end(statistics: PoolStatistics, transport: SimulatedTransport, left: Sequence[str]) -> Iterator[str]:
    """What is left over after the last call.

    Args:
        statistics: The dispatcher's.
        transport: The fleet.
        left: Tasks and timers that still exist.
    """
    if statistics.outstanding or statistics.waiting:
        yield f"{statistics.outstanding} slots and {statistics.waiting} waiters are left over"
    for index, endpoint in enumerate(statistics.endpoints):
        if endpoint.outstanding:
            yield f"endpoint {index} is still booked for {endpoint.outstanding} calls"
    for endpoint_, server in transport.servers.items():
        if server.open or server.running or server.queued:
            yield f"{endpoint_.host} still runs {server.running} and queues {server.queued}"
    yield from (f"left over: {each}" for each in left)


def check_budget(
    scenario: Scenario, statistics: PoolStatistics, transport: SimulatedTransport, traffic: Traffic
) -> Iterator[str]:
    """Whether more was sent than the budgets allow.

    Some requests cost no retry, since something else bounds them: those to busy and to wrong endpoints, rivals of
    attempts that hang, the trial of an endpoint after a rest, and the first ones to an endpoint that never answered.

    Args:
        scenario: What was planned.
        statistics: The dispatcher's, after the last call.
        transport: The fleet.
        traffic: What the endpoints saw.
    """
    met, calls = transport.injected, statistics.calls
    retries = scenario.retry.budget_floor + scenario.retry.budget_ratio * calls + 1
    if statistics.retries > retries:
        yield f"{statistics.retries} retries, {retries:g} allowed"
    yield from _check_hedges(scenario.hedge, statistics)
    bounded = sum(met[kind] for kind in ("overloaded", "wrong_model", "hang", "gray", "slow"))
    bounded += traffic.trials + statistics.excused + statistics.hedges + statistics.moves
    sent = sum(server.requests for server in transport.servers.values())
    if sent > calls + retries + bounded:
        yield f"{sent} requests for {calls} calls, {retries:g} retries and {bounded} others"


def _check_hedges(hedge: HedgePolicy | None, statistics: PoolStatistics) -> Iterator[str]:
    if hedge is None:
        hedges = moves = 0.0
    else:
        hedges = hedge.budget_floor + hedge.budget_ratio * statistics.calls + 1
        moves = hedge.budget_floor + hedge.move_ratio * statistics.calls + 1
    if statistics.hedges > hedges or statistics.moves > moves:
        yield f"{statistics.hedges} hedges and {statistics.moves} moves, {hedges:g} and {moves:g} allowed"


def check_concurrency(scenario: Scenario, transport: SimulatedTransport) -> Iterator[str]:
    """Whether more calls were under way than the pool allows; the last request may bring several.

    Args:
        scenario: What was planned.
        transport: The fleet.
    """
    most = scenario.limits.concurrency + max(len(plan.prompts) for plan in scenario.calls) - 1
    if transport.most_open > most:
        yield f"{transport.most_open} calls were under way, {most} allowed"
