"""Acts on what the deciding modules decide: takes each call from wish to outcome.

The clock is the event loop's, so that a loop with virtual time replaces it. `Ward` sees to the endpoints, `Races` to
late attempts, `WaitingRoom` to those who wait for a slot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgspec

from aurora_swarm.dispatch.admission import Admission
from aurora_swarm.dispatch.budget import RetryBudget
from aurora_swarm.dispatch.errand import Errand
from aurora_swarm.dispatch.health import Health
from aurora_swarm.dispatch.prefixes import Gate, Homes
from aurora_swarm.dispatch.races import Races
from aurora_swarm.dispatch.retry import Verdict, backoff_s, judge
from aurora_swarm.dispatch.routing import Router, View
from aurora_swarm.dispatch.waiting import WaitingRoom
from aurora_swarm.dispatch.ward import UNPROVEN, Ward
from aurora_swarm.dispatch.windows import MOST_AT_START, START, Windows
from aurora_swarm.errors import (
    BatchUnsupportedError,
    CallCancelledError,
    CallError,
    DeadlineError,
    NoEndpointsError,
    RequestRejectedError,
    UsageError,
)
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.policy import HealthPolicy, HedgePolicy, RetryPolicy
from aurora_swarm.values.reply import EndpointInfo, Reply
from aurora_swarm.values.statistics import EndpointStatistics, PoolStatistics

T = TypeVar("T")

HEDGE = HedgePolicy()

GOING_DOWN = 4
"""A fleet of which one in so many is closed may be going down."""

MOSTLY = 0.5
"""Share of the latest attempts that must have failed for the same suspicion."""


class Limits(msgspec.Struct, frozen=True):
    """What a dispatcher may spend.

    Args:
        concurrency: Calls under way at a time, over the whole fleet.
        attempt_timeout_s: Longest single attempt.
        deadline_s: Longest time from a call's first attempt to its end; also how long calls wait while no
            endpoint of theirs is open. Waiting behind other calls does not count.
        probe_timeout_s: Longest probe.
    """

    concurrency: int = 512
    attempt_timeout_s: float = 120.0
    deadline_s: float = 360.0
    probe_timeout_s: float = 5.0


class Dispatcher:
    """Places calls on endpoints until each has an outcome.

    Guarantees: every call ends in exactly one `Outcome`; slots are released on success, failure and
    cancellation; nothing waits longer than `Limits` says.

    Args:
        endpoints: The fleet; at least one endpoint.
        transport: How a call reaches an endpoint. Not closed by the dispatcher.
        limits: What may be spent.
        retry: When to try again.
        health: When an endpoint rests.
        hedge: When a late attempt gets a rival; None for never.
        dice: For jitter.

    Attributes:
        bounds: Sets how many calls an endpoint may have at most, while the dispatcher works.
        slots: Slots of the endpoints that name any, by index.

    Raises:
        NoEndpointsError: `endpoints` is empty.
        UsageError: A limit is not positive.
    """

    def __init__(
        self,
        endpoints: Sequence[AgentEndpoint],
        transport: Transport,
        *,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        health: HealthPolicy | None = None,
        hedge: HedgePolicy | None = HEDGE,
        dice: random.Random | None = None,
    ) -> None:
        if not endpoints:
            raise NoEndpointsError("the fleet has no endpoints", remedy="give at least one host:port")
        self.endpoints = tuple(endpoints)
        self.limits = _checked(limits or Limits())
        size = len(self.endpoints)
        share = -(-self.limits.concurrency // size)
        self._transport = transport
        self._retry = retry or RetryPolicy()
        self._dice = dice or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._router = Router(size, UNPROVEN, max(share // 2, 1))
        self._admission = Admission(self._router, self.limits.concurrency)
        self._budget = RetryBudget(self._retry)
        self._health = Health(health or HealthPolicy())
        self._waiting = WaitingRoom(self._admission, self._health, self.limits.deadline_s)
        self._ward = Ward(
            self.endpoints,
            transport,
            self._router,
            self._admission,
            health=self._health,
            windows=Windows(min(max(START, share), MOST_AT_START)),
            share=share,
            probe_timeout_s=self.limits.probe_timeout_s,
            waiting=self._waiting,
            told=self.inform,
        )
        self._races = Races(
            self.endpoints,
            transport,
            hedge,
            router=self._router,
            admission=self._admission,
            waiting=self._waiting,
            ward=self._ward,
            budget=self._budget,
            share=share,
            timeout_s=self.limits.attempt_timeout_s,
            tries=self._retry.max_attempts,
        )
        self.bounds = self._ward.bounds
        self._homes = Homes(self._router.loads)
        self.slots: dict[int, int] = {}
        self._gate = Gate(self.slots)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._now: Callable[[], float] = _no_clock

    def view(self, members: Sequence[int]) -> View:
        """A part of the fleet to spread calls over."""
        return self._router.view(members)

    def inform(self, index: int, info: EndpointInfo) -> None:
        """What a probe learned of an endpoint: one that names its slots gets as many calls at a time, not more."""
        if info.slots and info.slots > 0 and self.slots.get(index) != info.slots:
            self.slots[index] = info.slots
            self._ward.slots(index, info.slots)
            if self.bounds.slots_found is not None:
                self.bounds.slots_found(index, info.slots)

    async def ask(self, call: Call, view: View, *, pin: int | None = None, strict: bool = False) -> Outcome:
        """One call, until it has an outcome.

        Args:
            call: What is asked.
            view: Where it may go.
            pin: The endpoint to prefer.
            strict: Whether only `pin` may answer, retries included. Such a call does not sit out an outage: it
                fails when a probe of its endpoint does.

        Returns:
            The outcome; failures are in it, not raised.
        """
        errand = self._errand((call,), view, pin, strict)
        if call.prefix:
            return await self._ask_with_prefix(errand)
        if pin is not None:
            errand.renew(self._router.limits[pin] > 0)
        index = self._admission.take(errand)
        if index is not None and await self._attempt(index, errand):
            return errand.answered(self._now())
        return await self._pursue(errand)

    async def ask_many(
        self, calls: Sequence[Call], view: View, *, pin: int | None = None, timeout_s: float | None = None
    ) -> list[Outcome]:
        """Calls that travel in one request; each has an outcome of its own.

        Parts that were answered are kept. A part that is missing or failed is asked again alone; a request that is
        refused as a whole is halved until the bad part stands alone; an endpoint that takes no such request gets the
        calls one by one; so does every endpoint where one has a bound.

        Args:
            calls: Equal in model, sampling and schema; may be empty.
            view: Where they may go.
            pin: The endpoint to prefer.
            timeout_s: Longest single attempt; that of one call when None.

        Returns:
            One outcome per call, in their order.
        """
        if len(calls) < 2 or self.bounds.limits:
            return await _all([self.ask(call, view, pin=pin) for call in calls])
        errand = self._errand(calls, view, pin, strict=False)
        errand.timeout_s = timeout_s or 0.0
        whole = await self._pursue(errand)
        if whole.error is None:
            parts = zip(calls, errand.prize, strict=True)
            return await _all([self._part(call, part, view, whole) for call, part in parts])
        if isinstance(whole.error, BatchUnsupportedError):
            return await _all([self.ask(call, view, pin=pin) for call in calls])
        if isinstance(whole.error, RequestRejectedError):
            half = len(calls) // 2
            halves = [self.ask_many(part, view, pin=pin, timeout_s=timeout_s) for part in (calls[:half], calls[half:])]
            return [outcome for part in await _all(halves) for outcome in part]
        return [whole] * len(calls)

    def statistics(self, members: Sequence[int]) -> PoolStatistics:
        """A frozen snapshot. O(members).

        Args:
            members: Endpoint indices to list.
        """
        races = self._races
        return PoolStatistics(
            endpoints=tuple(map(self._endpoint_statistics, members)),
            calls=self._budget.calls,
            attempts=sum(races.succeeded) + sum(races.failed),
            retries=self._budget.retries,
            outstanding=self.limits.concurrency - self._admission.free,
            waiting=self._admission.waiting,
            hedges=races.flights.hedges,
            moves=races.flights.moves,
            excused=self._budget.excused,
        )

    async def aclose(self) -> None:
        """Fail whoever waits, stop probing and racing. May be called twice."""
        self._waiting.close()
        await self._races.aclose()
        await self._ward.aclose()

    def _endpoint_statistics(self, index: int) -> EndpointStatistics:
        error = self._health.error(index)
        return EndpointStatistics(
            endpoint=self.endpoints[index],
            condition=self._health.condition(index).value,
            outstanding=self._router.loads[index],
            succeeded=self._races.succeeded[index],
            failed=self._races.failed[index],
            error=str(error) if error else "",
            limit=self._router.limits[index],
            latency_s=mean if (mean := self._races.pace.means[index]) >= 0 else None,
        )

    # -- from wish to outcome ----------------------------------------------------------------------------------

    def _errand(self, calls: Sequence[Call], view: View, pin: int | None, strict: bool) -> Errand:
        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._loop = asyncio.get_running_loop()  # a system call, so not for every call
            self._now = loop.time
        self._budget.calls += len(calls)
        self._races.flights.calls += 1
        return Errand(calls, view, pin, strict, self._now(), asyncio.current_task(loop))

    async def _pursue(self, errand: Errand) -> Outcome:
        """Attempt after attempt, until there is an answer or no further attempt makes sense."""
        while True:
            if errand.error is not None:
                if errand.race is not None and await self._decided_race(errand, errand.error):
                    break
                delay_s = self._next_delay(errand, errand.error)
                if delay_s is None:
                    return errand.failed(errand.error, self._now())
                if delay_s:
                    await asyncio.sleep(delay_s)
            errand.renew(errand.wish is not None and self._router.limits[errand.wish] > 0)
            index = self._admission.request(errand)
            if index is None:
                self.bounds.pressed()
                index = await self._waiting.wait(errand, errand.deadline)
                if index is None:
                    return errand.failed(self._give_up(errand), self._now())
            if await self._attempt(index, errand):
                break
        return errand.answered(self._now())

    async def _decided_race(self, errand: Errand, error: CallError) -> bool:
        """The first attempt failed: whether its rival answers; nobody waits for the refusal of the same call."""
        why = "the first endpoint refused the call"
        try:
            if judge(error) is Verdict.FINAL:
                return False
            why = "its call was cancelled"
            return await self._races.outcome(errand)
        finally:
            self._races.end(errand, why, self._now())

    async def _attempt(self, index: int, errand: Errand) -> bool:
        """Send it once; whether there is an answer, of this endpoint or of a rival that was faster."""
        races, single = self._races, errand.weight == 1
        timeout_s = self._take_off(index, errand)
        endpoint, began = self.endpoints[index], errand.began
        try:
            if single:
                reply = errand.prize = await self._transport.send(endpoint, errand.call, timeout_s=timeout_s)
                races.note_answer(index, reply, began, self._now())
            else:
                errand.prize = await self._transport.send_many(endpoint, errand.calls, timeout_s=timeout_s)
                races.succeeded[index] += 1
                self._ward.well(index, self._now())
        except CallError as error:
            races.note_failure(index, errand, error, began, self._now())
            return False
        except asyncio.CancelledError:
            if errand.prize is None or errand.task is None or errand.task.uncancel() > errand.cancelling:
                races.end(errand, "its call was cancelled", self._now())
                raise
            races.note_beaten(errand, self._now())
        finally:
            if errand.flying or errand.race is not None:
                errand.flying = False
                races.flights.remove(errand)
            self._admission.release(index, errand.weight)
        if errand.race is not None:
            races.end(errand, "the first endpoint answered first", self._now())
        return True

    def _take_off(self, index: int, errand: Errand) -> float:
        """Note that an attempt begins; returns how many seconds it may take."""
        began = errand.began = self._now()
        errand.index = index
        errand.on_trial = self._router.closed[index]
        errand.endpoint = self.endpoints[index]
        if not errand.deadline:
            errand.deadline = began + max(self.limits.deadline_s, errand.timeout_s)
        if index in self._ward.unseen:
            self._ward.sent(index)
        if errand.call.prefix:
            self._homes.note(errand.call.prefix, index)
        if self._races.on and errand.weight == 1 and not errand.strict:
            self._races.enter(errand)
        return min(errand.timeout_s or self.limits.attempt_timeout_s, max(errand.deadline - began, 0.001))

    def _next_delay(self, errand: Errand, error: CallError) -> float | None:
        """Seconds until the next attempt; None when the last failure is final.

        The first failures of an endpoint that never answered cost no budget; and where the budget is empty because all
        endpoints are down, the call waits for one.
        """
        verdict = judge(error)
        errand.retries += verdict is Verdict.AGAIN
        if verdict is Verdict.FINAL or self._waiting.closed or self._waiting.is_hopeless(errand.view):
            return None
        now = self._now()
        if verdict is Verdict.WAIT:
            return 0.0 if now < errand.deadline else None
        if errand.retries < self._retry.max_attempts and self._ward.pardons(errand.index):
            self._budget.excused += 1
        elif errand.retries >= self._retry.max_attempts or not self._budget.spend():
            return self._outage_delay(errand, now)
        elsewhere = errand.only is None and len(errand.avoid) < len(errand.view.members)
        delay_s = backoff_s(self._retry, errand.retries, elsewhere=elsewhere, die=self._dice.random())
        return delay_s if now + delay_s < errand.deadline else None

    def _outage_delay(self, errand: Errand, now: float) -> float | None:
        """No further retry is left: where its fleet is going down, a call waits for the end of that, if it has time."""
        view = errand.view
        delay_s = 0.0 if view.out else self._dice.uniform(0.5, 1.5)
        going_down = GOING_DOWN * view.closed >= len(view.members) or self._races.failing > MOSTLY
        if errand.on_trial or not going_down or now + delay_s >= errand.deadline:
            return None
        self._budget.excused += 1
        return delay_s

    def _give_up(self, errand: Errand) -> CallError:
        if self._waiting.closed:
            return CallCancelledError("the pool was closed before the call had its turn")
        pin = errand.only
        members = errand.view.members if pin is None else (pin,)
        known = (error for i in members if (error := self._health.error(i)) is not None)
        latest = errand.error or next(known, None)
        if latest is not None and (pin is not None or self._waiting.is_hopeless(errand.view)):
            return latest
        return DeadlineError(
            f"no endpoint could take the call within {self.limits.deadline_s:g} s"
            + (f"; the latest failure: {latest}" if latest else ""),
            remedy="see which servers are up with: aurora-swarm endpoints",
        )

    async def _part(self, call: Call, part: Reply | CallError, view: View, whole: Outcome) -> Outcome:
        """A part of a request of several calls; one that failed is asked again alone."""
        if isinstance(part, Reply):
            return Outcome(part, None, whole.endpoint, whole.failures, whole.latency_s)
        assert whole.endpoint is not None
        failures = (*whole.failures, Attempt(whole.endpoint, part, whole.latency_s))
        if judge(part) is Verdict.FINAL or not self._budget.spend():
            return Outcome(None, part, whole.endpoint, failures, whole.latency_s)
        again = await self.ask(call, view)
        latency_s = whole.latency_s + again.latency_s
        return Outcome(again.reply, again.error, again.endpoint, failures + again.failures, latency_s)

    # -- prefixes ----------------------------------------------------------------------------------------------

    async def _ask_with_prefix(self, errand: Errand) -> Outcome:
        """A call whose prefix has a place; where the engine caches by slot, behind others of its prefix."""
        prefix = errand.call.prefix
        if errand.wish is None:
            outstanding = self.limits.concurrency - self._admission.free
            errand.wish = self._homes.choose(prefix, outstanding, errand.view.__contains__)
        index = errand.wish
        if index is None or index not in self.slots:
            return await self._pursue(errand)
        cold, outcome = await self._enter(index, prefix), None
        began = self._now()
        try:
            outcome = await self._pursue(errand)
        finally:
            answered = outcome is not None and outcome.error is None
            self._gate.leave(index, prefix, cold=cold, took_s=self._now() - began if answered else None)
        return outcome

    async def _enter(self, index: int, prefix: str) -> bool:
        """Wait until the call may go to its endpoint; whether its prefix is to be computed there."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()

        def notify(cold: bool) -> None:
            if not turn.done():
                turn.set_result(cold)

        self._gate.wait(index, prefix, notify)
        loop.call_soon(self._gate.open, index)
        try:
            return await turn
        except asyncio.CancelledError:
            if not self._gate.withdraw(index, prefix, notify):
                self._gate.leave(index, prefix, cold=False, took_s=None)
            raise


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; where the caller is cancelled, so is the rest."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
    return [task.result() for task in tasks]


def _no_clock() -> float:
    """Until a call brings a loop, no time has passed."""
    return 0.0


def _checked(limits: Limits) -> Limits:
    for name in limits.__struct_fields__:
        if not getattr(limits, name) > 0:
            raise UsageError(f"{name} is {getattr(limits, name)}", remedy=f"give {name} a value above 0")
    return limits
