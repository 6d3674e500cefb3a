"""Acts on what the deciding modules decide: owns slots, timers and probes; awaits the transport.

The clock is the event loop's, so that a loop with virtual time replaces it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import msgspec

from aurora_swarm.dispatch.admission import Admission, Ticket
from aurora_swarm.dispatch.budget import RetryBudget
from aurora_swarm.dispatch.health import Condition, Health
from aurora_swarm.dispatch.retry import Verdict, backoff_s, judge
from aurora_swarm.dispatch.routing import Router, View
from aurora_swarm.errors import (
    CallCancelledError,
    CallError,
    DeadlineError,
    EndpointError,
    NoEndpointsError,
    OverloadedError,
    UsageError,
    WrongModelError,
)
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.policy import HealthPolicy, RetryPolicy
from aurora_swarm.values.reply import Reply
from aurora_swarm.values.statistics import EndpointStatistics, PoolStatistics

CLOCK_TICK_S = 1e-3
"""A timer may fire this much early; what is due by then counts as due."""


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
        dice: For jitter.

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
        dice: random.Random | None = None,
    ) -> None:
        if not endpoints:
            raise NoEndpointsError("the fleet has no endpoints", remedy="give at least one host:port")
        self.endpoints = tuple(endpoints)
        self.limits = _checked(limits or Limits())
        self._transport = transport
        self._retry = retry or RetryPolicy()
        self._dice = dice or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._router = Router(len(self.endpoints))
        self._admission = Admission(self._router, self.limits.concurrency)
        self._health = Health(health or HealthPolicy())
        self._budget = RetryBudget(self._retry)
        self._succeeded = [0] * len(self.endpoints)
        self._failed = [0] * len(self.endpoints)
        self._probes: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._outages: dict[View, asyncio.TimerHandle] = {}
        self._closed = False

    def view(self, members: Sequence[int]) -> View:
        """A part of the fleet to spread calls over."""
        return self._router.view(members)

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
        loop = asyncio.get_running_loop()
        started = loop.time()
        progress = _Progress(started)
        self._budget.note_call()
        while True:
            ticket = self._ticket(call, view, pin, strict, progress)
            index = self._admission.request(ticket)
            if index is None:
                index = await self._wait(ticket, progress)
                if index is None:
                    return progress.outcome(None, self._give_up(view, progress, pin if strict else None), loop.time())
            reply = await self._attempt(index, call, progress)
            if reply is not None:
                return progress.outcome(reply, None, loop.time())
            delay_s = self._next_delay(view, progress, pin if strict else None)
            if delay_s is None:
                return progress.outcome(None, progress.failures[-1].error, loop.time())
            if delay_s:
                await asyncio.sleep(delay_s)

    def statistics(self, members: Sequence[int]) -> PoolStatistics:
        """A frozen snapshot. O(members).

        Args:
            members: Endpoint indices to list.
        """
        attempts = sum(self._succeeded) + sum(self._failed)
        return PoolStatistics(
            endpoints=tuple(map(self._endpoint_statistics, members)),
            calls=self._budget.calls,
            attempts=attempts,
            retries=self._budget.retries,
            outstanding=self.limits.concurrency - self._admission.free,
            waiting=self._admission.waiting,
        )

    async def aclose(self) -> None:
        """Fail whoever waits and stop probing. May be called twice."""
        self._closed = True
        timers = [*self._outages.values(), *([self._alarm] if self._alarm else [])]
        for timer in timers:
            timer.cancel()
        for view in self._admission.views():
            self._evict(view)
        probes = list(self._probes)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)

    def _endpoint_statistics(self, index: int) -> EndpointStatistics:
        error = self._health.error(index)
        return EndpointStatistics(
            endpoint=self.endpoints[index],
            condition=self._health.condition(index).value,
            outstanding=self._router.loads[index],
            succeeded=self._succeeded[index],
            failed=self._failed[index],
            error=str(error) if error else "",
        )

    def _ticket(self, call: Call, view: View, pin: int | None, strict: bool, progress: _Progress) -> Ticket:
        if not strict and pin is not None and (pin in progress.tried or self._router.limits[pin] == 0):
            pin = None
        return Ticket(
            view,
            pin=pin,
            strict=strict,
            turns_left=call.turns_left,
            since=progress.started,
            avoid=frozenset(progress.tried),
        )

    # -- waiting -----------------------------------------------------------------------------------------------

    async def _wait(self, ticket: Ticket, progress: _Progress) -> int | None:
        """Wait for a slot.

        Returns:
            The endpoint, or None when the call's time, or the patience with an outage, is used up.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()

        def notify() -> None:
            if not turn.done():
                turn.set_result(None)

        ticket.notify = notify
        self._watch_outage(ticket.view)
        timer = None
        if progress.deadline is not None:
            timer = loop.call_at(progress.deadline, self._evict_one, ticket)
        try:
            await turn
        except asyncio.CancelledError:
            self._admission.withdraw(ticket)
            if ticket.granted is not None:
                self._admission.release(ticket.granted)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return ticket.granted

    def _evict_one(self, ticket: Ticket) -> None:
        self._admission.withdraw(ticket)
        if ticket.notify is not None:
            ticket.notify()

    def _evict(self, view: View) -> None:
        for ticket in self._admission.waiters(view):
            self._evict_one(ticket)

    def _watch_outage(self, view: View) -> None:
        """While no endpoint of a view is open, its waiters are patient for `deadline_s`, then they fail."""
        loop = asyncio.get_running_loop()
        if self._is_hopeless(view) or self._closed:
            loop.call_soon(self._evict, view)
        elif view.out and view not in self._outages:
            start = loop.time()
            timer = loop.call_later(self.limits.deadline_s, self._end_patience, view, start)
            self._outages[view] = timer

    def _end_patience(self, view: View, start: float) -> None:
        loop = asyncio.get_running_loop()
        del self._outages[view]
        ends = {t: max(t.since, start) + self.limits.deadline_s for t in self._admission.waiters(view)}
        for ticket in [t for t, end in ends.items() if end <= loop.time() + CLOCK_TICK_S]:
            self._evict_one(ticket)
            del ends[ticket]
        if ends:
            self._outages[view] = loop.call_at(min(ends.values()), self._end_patience, view, start)

    def _note_recovery(self) -> None:
        for view in [v for v in self._outages if not v.out]:
            self._outages.pop(view).cancel()

    def _is_hopeless(self, view: View) -> bool:
        return view.out and all(self._health.condition(i) is Condition.EXCLUDED for i in view.members)

    def _give_up(self, view: View, progress: _Progress, pin: int | None) -> CallError:
        if self._closed:
            return CallCancelledError("the pool was closed before the call had its turn")
        members = view.members if pin is None else (pin,)
        known = [error for i in members if (error := self._health.error(i)) is not None]
        latest = progress.failures[-1].error if progress.failures else next(iter(known), None)
        if latest is not None and (pin is not None or self._is_hopeless(view)):
            return latest
        return DeadlineError(
            f"no endpoint could take the call within {self.limits.deadline_s:g} s"
            + (f"; the latest failure: {latest}" if latest else ""),
            remedy="see which servers are up with: aurora-swarm endpoints",
        )

    # -- acting ------------------------------------------------------------------------------------------------

    async def _attempt(self, index: int, call: Call, progress: _Progress) -> Reply | None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        if progress.deadline is None:
            progress.deadline = began + self.limits.deadline_s
        timeout_s = min(self.limits.attempt_timeout_s, max(progress.deadline - began, 0.001))
        endpoint = self.endpoints[index]
        progress.endpoint = endpoint
        try:
            reply = await self._transport.send(endpoint, call, timeout_s=timeout_s)
        except CallError as error:
            progress.failures.append(Attempt(endpoint, error, loop.time() - began))
            progress.tried.add(index)
            self._note_failure(index, error, loop.time())
            return None
        else:
            self._note_success(index)
            return reply
        finally:
            self._admission.release(index)

    def _next_delay(self, view: View, progress: _Progress, only: int | None) -> float | None:
        """Seconds until the next attempt; None when the last failure is final."""
        verdict = judge(progress.failures[-1].error)
        progress.retries += verdict is Verdict.AGAIN
        if verdict is Verdict.FINAL or self._closed or self._is_hopeless(view):
            return None
        now = asyncio.get_running_loop().time()
        if verdict is Verdict.WAIT:
            return 0.0 if now < (progress.deadline or 0.0) else None
        if progress.retries >= self._retry.max_attempts or not self._budget.spend():
            return None
        elsewhere = only is None and len(progress.tried) < len(view.members)
        delay_s = backoff_s(self._retry, progress.retries, elsewhere=elsewhere, die=self._dice.random())
        return delay_s if now + delay_s < (progress.deadline or 0.0) else None

    def _note_success(self, index: int) -> None:
        self._succeeded[index] += 1
        if self._health.condition(index) is not Condition.WELL or self._health.error(index) is not None:
            self._health.succeeded(index)
            self._apply(index)

    def _note_failure(self, index: int, error: CallError, now: float) -> None:
        self._failed[index] += 1
        if isinstance(error, EndpointError):
            self._health.failed(index, error, now)
        elif isinstance(error, OverloadedError):
            self._health.overloaded(index, error, error.retry_after_s, now)
        elif isinstance(error, WrongModelError):
            self._health.exclude(index, error)
        else:
            return
        self._apply(index)

    # -- the sick ----------------------------------------------------------------------------------------------

    def _apply(self, index: int) -> None:
        """Let the router know how an endpoint is, and see to it that somebody looks again."""
        limit = self._health.limit(index)
        if limit == self._router.limits[index]:
            return
        self._router.set_limit(index, limit)
        if limit:
            self._admission.opened(index)
        else:
            self._admission.unpin(index)
        for view in self._admission.views():
            self._watch_outage(view)
        self._note_recovery()
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        due = self._health.next_due()
        self._alarm = None
        if due is not None and not self._closed:
            self._alarm = asyncio.get_running_loop().call_at(due, self._wake)

    def _wake(self) -> None:
        probes, cooled = self._health.wake(asyncio.get_running_loop().time() + CLOCK_TICK_S)
        for index in cooled:
            self._apply(index)
        for index in probes:
            task = asyncio.get_running_loop().create_task(self._probe(index))
            self._probes.add(task)
            task.add_done_callback(self._probes.discard)
        self._set_alarm()

    async def _probe(self, index: int) -> None:
        error: CallError | None = None
        try:
            await self._transport.probe(self.endpoints[index], timeout_s=self.limits.probe_timeout_s)
        except CallError as failure:
            error = failure
            for ticket in self._admission.waiters_for(index):
                self._evict_one(ticket)
        self._health.probed(index, error, asyncio.get_running_loop().time())
        self._apply(index)
        self._set_alarm()


class _Progress:
    """How far one call has come."""

    __slots__ = ("deadline", "endpoint", "failures", "retries", "started", "tried")

    def __init__(self, started: float) -> None:
        self.started = started
        self.deadline: float | None = None
        self.endpoint: AgentEndpoint | None = None
        self.failures: list[Attempt] = []
        self.retries = 0
        self.tried: set[int] = set()

    def outcome(self, reply: Reply | None, error: CallError | None, now: float) -> Outcome:
        return Outcome(reply, error, self.endpoint, tuple(self.failures), now - self.started)


def _checked(limits: Limits) -> Limits:
    for name in limits.__struct_fields__:
        if not getattr(limits, name) > 0:
            raise UsageError(f"{name} is {getattr(limits, name)}", remedy=f"give {name} a value above 0")
    return limits
