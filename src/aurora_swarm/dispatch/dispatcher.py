"""Acts on what the deciding modules decide: owns the calls and their rivals; awaits the transport.

The clock is the event loop's, so that a loop with virtual time replaces it. `Ward` sees to the endpoints.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from aurora_swarm.dispatch.admission import NOBODY, Admission, Ticket
from aurora_swarm.dispatch.budget import RetryBudget
from aurora_swarm.dispatch.health import Condition, Health
from aurora_swarm.dispatch.hedging import Flight, Flights, Pace
from aurora_swarm.dispatch.prefixes import Gate, Homes
from aurora_swarm.dispatch.retry import Verdict, backoff_s, judge
from aurora_swarm.dispatch.routing import Router, View
from aurora_swarm.dispatch.ward import CLOCK_TICK_S, UNPROVEN, Ward
from aurora_swarm.dispatch.windows import MOST_AT_START, START, Windows
from aurora_swarm.errors import (
    AttemptTimeoutError,
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


class _Errand:
    """One call, or several that travel together, on the way to an outcome."""

    __slots__ = (
        "avoid", "calls", "cancelling", "deadline", "endpoint", "endpoint_of_prize", "failures", "flying", "pin",
        "prize", "retries", "rival", "rival_flight", "started", "strict", "task", "timeout_s", "view",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - one caller, on the hot path
        self,
        calls: Sequence[Call],
        view: View,
        pin: int | None,
        strict: bool,
        started: float,
        task: asyncio.Task[Any] | None,
    ) -> None:
        self.calls = calls
        self.view = view
        self.pin = pin
        self.strict = strict
        self.started = started
        self.deadline: float | None = None
        self.timeout_s: float | None = None
        self.endpoint: AgentEndpoint | None = None
        self.failures: list[Attempt] = []
        self.avoid: frozenset[int] = NOBODY
        self.retries = 0
        self.task = task
        self.cancelling = task.cancelling() if task else 0
        self.flying = False
        self.rival: asyncio.Task[None] | None = None
        self.rival_flight: Flight | None = None
        self.endpoint_of_prize: AgentEndpoint | None = None
        self.prize: Any = None

    @property
    def only(self) -> int | None:
        """The one endpoint that may answer, if there is one."""
        return self.pin if self.strict else None

    def outcome(self, reply: Reply | None, error: CallError | None, now: float) -> Outcome:
        return Outcome(reply, error, self.endpoint, tuple(self.failures), now - self.started)


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
        hedge: HedgePolicy | None = HedgePolicy(),  # noqa: B008 - frozen
        dice: random.Random | None = None,
    ) -> None:
        if not endpoints:
            raise NoEndpointsError("the fleet has no endpoints", remedy="give at least one host:port")
        self.endpoints = tuple(endpoints)
        self.limits = _checked(limits or Limits())
        size = len(self.endpoints)
        self._transport = transport
        self._retry = retry or RetryPolicy()
        self._dice = dice or random.Random()  # noqa: S311 - jitter needs no secrecy
        self._router = Router(size, UNPROVEN)
        self._admission = Admission(self._router, self.limits.concurrency)
        self._budget = RetryBudget(self._retry)
        self._share = -(-self.limits.concurrency // size)
        self._ward = Ward(
            self.endpoints,
            transport,
            self._router,
            self._admission,
            health=Health(health or HealthPolicy()),
            windows=Windows(min(max(START, self._share), MOST_AT_START)),
            probe_timeout_s=self.limits.probe_timeout_s,
            changed=self._watch_outages,
            abandoned=self._abandon,
            told=self.inform,
        )
        self._hedges = hedge is not None and size > 1
        self._pace = Pace(size, hedge or HedgePolicy())
        self._flights = Flights(self._pace, hedge or HedgePolicy())
        self._late: asyncio.TimerHandle | None = None
        self._rivals: set[asyncio.Task[None]] = set()
        self._homes = Homes(self._router.loads)
        self._slots: dict[int, int] = {}
        self._gate = Gate(self._slots)
        self._succeeded = [0] * size
        self._failed = [0] * size
        self._outages: dict[View, asyncio.TimerHandle] = {}
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._now: Callable[[], float] = _no_clock

    def view(self, members: Sequence[int]) -> View:
        """A part of the fleet to spread calls over."""
        return self._router.view(members)

    def inform(self, index: int, info: EndpointInfo) -> None:
        """What a probe learned of an endpoint: one that names its slots gets as many calls at a time, not more."""
        if info.slots and info.slots > 0 and self._slots.get(index) != info.slots:
            self._slots[index] = info.slots
            self._ward.slots(index, info.slots)

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
        self._budget.note_call()
        self._flights.calls += 1
        errand = self._errand((call,), view, pin, strict)
        if not call.prefix:
            return await self._pursue(errand)
        if pin is None:
            outstanding = self.limits.concurrency - self._admission.free
            errand.pin = self._homes.choose(call.prefix, outstanding, view.__contains__)
        return await self._behind_gate(errand, call.prefix)

    async def ask_many(
        self, calls: Sequence[Call], view: View, *, pin: int | None = None, timeout_s: float | None = None
    ) -> list[Outcome]:
        """Calls that travel in one request; each has an outcome of its own.

        Parts that were answered are kept. A part that is missing or failed is asked again alone; a request that is
        refused as a whole is halved until the bad part stands alone; an endpoint that takes no such request gets the
        calls one by one.

        Args:
            calls: Equal in model, sampling and schema; may be empty.
            view: Where they may go.
            pin: The endpoint to prefer.
            timeout_s: Longest single attempt; that of one call when None.

        Returns:
            One outcome per call, in their order.
        """
        if len(calls) < 2:
            return [await self.ask(call, view, pin=pin) for call in calls]
        for _ in calls:
            self._budget.note_call()
        errand = self._errand(calls, view, pin, strict=False)
        errand.timeout_s = timeout_s
        whole = await self._pursue(errand)
        parts: Sequence[Reply | CallError]
        if whole.error is None:
            parts = errand.prize
        elif isinstance(whole.error, BatchUnsupportedError):
            return await self._one_by_one(calls, view, pin)
        elif isinstance(whole.error, RequestRejectedError):
            half = len(calls) // 2
            first, second = await _both(
                self.ask_many(calls[:half], view, pin=pin, timeout_s=timeout_s),
                self.ask_many(calls[half:], view, pin=pin, timeout_s=timeout_s),
            )
            return [*first, *second]
        else:
            return [whole] * len(calls)
        return list(await _all(*(self._part(c, p, view, whole) for c, p in zip(calls, parts, strict=True))))

    async def _one_by_one(self, calls: Sequence[Call], view: View, pin: int | None) -> list[Outcome]:
        return list(await _all(*(self.ask(call, view, pin=pin) for call in calls)))

    async def _part(self, call: Call, part: Reply | CallError, view: View, whole: Outcome) -> Outcome:
        if isinstance(part, Reply):
            return Outcome(part, None, whole.endpoint, whole.failures, whole.latency_s)
        assert whole.endpoint is not None
        failures = (*whole.failures, Attempt(whole.endpoint, part, whole.latency_s))
        if judge(part) is Verdict.FINAL or not self._budget.spend():
            return Outcome(None, part, whole.endpoint, failures, whole.latency_s)
        again = await self.ask(call, view)
        return Outcome(
            again.reply, again.error, again.endpoint, failures + again.failures, whole.latency_s + again.latency_s
        )

    def statistics(self, members: Sequence[int]) -> PoolStatistics:
        """A frozen snapshot. O(members).

        Args:
            members: Endpoint indices to list.
        """
        return PoolStatistics(
            endpoints=tuple(map(self._endpoint_statistics, members)),
            calls=self._budget.calls,
            attempts=sum(self._succeeded) + sum(self._failed),
            retries=self._budget.retries,
            outstanding=self.limits.concurrency - self._admission.free,
            waiting=self._admission.waiting,
            hedges=self._flights.hedges,
            moves=self._flights.moves,
        )

    async def aclose(self) -> None:
        """Fail whoever waits, stop probing and racing. May be called twice."""
        self._closed = True
        timers = [*self._outages.values(), *([self._late] if self._late else [])]
        for timer in timers:
            timer.cancel()
        for view in self._admission.views():
            self._evict(view)
        rivals = list(self._rivals)
        for rival in rivals:
            rival.cancel()
        await asyncio.gather(*rivals, return_exceptions=True)
        await self._ward.aclose()

    def _endpoint_statistics(self, index: int) -> EndpointStatistics:
        health = self._ward.health
        error = health.error(index)
        return EndpointStatistics(
            endpoint=self.endpoints[index],
            condition=health.condition(index).value,
            outstanding=self._router.loads[index],
            succeeded=self._succeeded[index],
            failed=self._failed[index],
            error=str(error) if error else "",
            limit=self._router.limits[index],
            latency_s=self._pace.means[index],
        )

    def _errand(self, calls: Sequence[Call], view: View, pin: int | None, strict: bool) -> _Errand:
        loop = self._loop
        if loop is None or loop.is_closed():
            loop = self._loop = asyncio.get_running_loop()  # a system call, so not for every call
            self._now = loop.time
        return _Errand(calls, view, pin, strict, self._now(), asyncio.current_task(loop))

    # -- one errand --------------------------------------------------------------------------------------------

    async def _pursue(self, errand: _Errand) -> Outcome:
        """Attempt after attempt, until there is an answer or no further attempt makes sense."""
        try:
            while True:
                ticket = self._ticket(errand)
                index = self._admission.request(ticket)
                if index is None:
                    index = await self._wait(ticket, errand)
                    if index is None:
                        return errand.outcome(None, self._give_up(errand), self._now())
                if await self._attempt(index, errand) or (
                    errand.rival is not None and await self._outcome_of_race(errand)
                ):
                    return errand.outcome(_only(errand.prize), None, self._now())
                delay_s = self._next_delay(errand)
                if delay_s is None:
                    return errand.outcome(None, errand.failures[-1].error, self._now())
                if delay_s:
                    await asyncio.sleep(delay_s)
        finally:
            if errand.rival is not None:
                self._end_rival(errand, "its call was cancelled")

    def _ticket(self, errand: _Errand) -> Ticket:
        pin = errand.pin
        if pin is not None and not errand.strict and (pin in errand.avoid or self._router.limits[pin] == 0):
            pin = None
        return Ticket(
            errand.view,
            pin=pin,
            strict=errand.strict,
            turns_left=errand.calls[0].turns_left,
            since=errand.started,
            avoid=errand.avoid,
            weight=len(errand.calls),
        )

    async def _behind_gate(self, errand: _Errand, prefix: str) -> Outcome:
        """An errand whose prefix has a place; where the engine caches by slot, behind others of its prefix."""
        index = errand.pin
        if index is None or index not in self._slots:
            return await self._pursue(errand)
        await self._enter(index, prefix)
        try:
            return await self._pursue(errand)
        finally:
            self._gate.leave(index, prefix)

    async def _enter(self, index: int, prefix: str) -> None:
        if self._gate.enter(index, prefix):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def notify() -> None:
            if not turn.done():
                turn.set_result(None)

        self._gate.wait(index, prefix, notify)
        try:
            await turn
        except asyncio.CancelledError:
            if not self._gate.withdraw(index, prefix, notify):
                self._gate.leave(index, prefix)
            raise

    # -- waiting -----------------------------------------------------------------------------------------------

    async def _wait(self, ticket: Ticket, errand: _Errand) -> int | None:
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
        if errand.deadline is not None:
            timer = loop.call_at(errand.deadline, self._evict_one, ticket)
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

    def _is_hopeless(self, view: View) -> bool:
        return view.out and all(self._ward.health.condition(i) is Condition.EXCLUDED for i in view.members)

    def _give_up(self, errand: _Errand) -> CallError:
        if self._closed:
            return CallCancelledError("the pool was closed before the call had its turn")
        pin, failures = errand.only, errand.failures
        members = errand.view.members if pin is None else (pin,)
        known = (error for i in members if (error := self._ward.health.error(i)) is not None)
        latest = failures[-1].error if failures else next(known, None)
        if latest is not None and (pin is not None or self._is_hopeless(errand.view)):
            return latest
        return DeadlineError(
            f"no endpoint could take the call within {self.limits.deadline_s:g} s"
            + (f"; the latest failure: {latest}" if latest else ""),
            remedy="see which servers are up with: aurora-swarm endpoints",
        )

    # -- one attempt -------------------------------------------------------------------------------------------

    async def _attempt(self, index: int, errand: _Errand) -> bool:
        """Send it once; whether there is an answer, of this endpoint or of a rival that was faster."""
        began = self._now()
        endpoint = errand.endpoint = self.endpoints[index]
        flight = self._take_off(index, errand, began)
        try:
            errand.prize = await self._send(endpoint, errand, began)
        except CallError as error:
            self._note_failure(index, errand, error, began)
            return False
        except asyncio.CancelledError:
            if errand.prize is None or errand.task is None or errand.task.uncancel() > errand.cancelling:
                raise
            self._note_beaten(index, errand, began)
            return True
        else:
            self._note_success(index, errand, began)
            if errand.rival is not None:
                self._end_rival(errand, "the first endpoint answered first")
            return True
        finally:
            errand.flying = False
            if flight is not None:
                self._flights.remove(flight)
            self._admission.release(index, len(errand.calls))

    def _take_off(self, index: int, errand: _Errand, began: float) -> Flight | None:
        if errand.deadline is None:
            errand.deadline = began + max(self.limits.deadline_s, errand.timeout_s or 0.0)
        self._ward.sent(index)
        if errand.calls[0].prefix:
            self._homes.note(errand.calls[0].prefix, index)
        if not self._hedges or errand.strict or errand.rival is not None or len(errand.calls) > 1:
            return None
        errand.flying = True
        flight = Flight(index, began, errand)
        self._flights.add(flight)
        if self._late is None:
            self._watch_flights()
        return flight

    def _send(self, endpoint: AgentEndpoint, errand: _Errand, began: float) -> Awaitable[Any]:
        longest_s = errand.timeout_s or self.limits.attempt_timeout_s
        timeout_s = min(longest_s, max((errand.deadline or began) - began, 0.001))
        if len(errand.calls) == 1:
            return self._transport.send(endpoint, errand.calls[0], timeout_s=timeout_s)
        return self._transport.send_many(endpoint, errand.calls, timeout_s=timeout_s)

    def _note_success(self, index: int, errand: _Errand, began: float) -> None:
        now = self._now()
        self._succeeded[index] += 1
        if len(errand.calls) == 1:
            self._pace.answered(index, now - began, now)
            self._ward.answered(index, errand.prize.usage.completion_tokens or 1.0, now - began, now)
        else:
            self._ward.well(index, now)
        if self._admission.free > 0 and not self._admission.waiting:
            self._move(now)

    def _note_failure(self, index: int, errand: _Errand, error: CallError, began: float) -> None:
        now = self._now()
        self._failed[index] += 1
        errand.failures.append(Attempt(self.endpoints[index], error, now - began))
        errand.avoid |= {index}
        self._ward.failed(index, error, now)

    def _note_beaten(self, index: int, errand: _Errand, began: float) -> None:
        """A rival was faster. An endpoint that answered nobody meanwhile is on its way to a rest."""
        now = self._now()
        self._note_cancelled(index, errand, began, "another endpoint answered first")
        if self._pace.last_answer[index] < began:
            self._ward.failed(index, self._silence(index, now - began), now)
        errand.endpoint = errand.endpoint_of_prize

    def _note_cancelled(self, index: int, errand: _Errand, began: float, reason: str) -> None:
        self._failed[index] += 1
        errand.avoid |= {index}
        error = CallCancelledError(reason, endpoint=self.endpoints[index].url)
        errand.failures.append(Attempt(self.endpoints[index], error, self._now() - began))

    def _silence(self, index: int, age_s: float) -> AttemptTimeoutError:
        return AttemptTimeoutError(
            f"it answered nobody for {age_s:.3g} s, while others did", endpoint=self.endpoints[index].url
        )

    def _next_delay(self, errand: _Errand) -> float | None:
        """Seconds until the next attempt; None when the last failure is final."""
        verdict = judge(errand.failures[-1].error)
        errand.retries += verdict is Verdict.AGAIN
        if verdict is Verdict.FINAL or self._closed or self._is_hopeless(errand.view):
            return None
        now = self._now()
        if verdict is Verdict.WAIT:
            return 0.0 if now < (errand.deadline or 0.0) else None
        if errand.retries >= self._retry.max_attempts or not self._budget.spend():
            return None
        elsewhere = errand.only is None and len(errand.avoid) < len(errand.view.members)
        delay_s = backoff_s(self._retry, errand.retries, elsewhere=elsewhere, die=self._dice.random())
        return delay_s if now + delay_s < (errand.deadline or 0.0) else None

    # -- races -------------------------------------------------------------------------------------------------

    def _watch_flights(self) -> None:
        """Look again when the oldest attempt becomes late, or earlier where endpoints idle beside slow ones."""
        due = self._flights.next_due()
        if due is None or self._closed:
            self._late = None
            return
        loop = asyncio.get_running_loop()
        if self._admission.free > 0 and not self._admission.waiting:
            due = min(due, loop.time() + self._flights.survey_s)
        self._late = loop.call_at(max(due, loop.time() + CLOCK_TICK_S), self._see_late_ones)

    def _see_late_ones(self) -> None:
        now = self._now() + CLOCK_TICK_S
        for flight in self._flights.overdue(now):
            self._race(flight, None)
        for flight in self._flights.silent(now):
            self._ward.silent(flight.index, self._silence(flight.index, now - flight.began), now)
            self._race(flight, None)
        if self._admission.free > 0 and not self._admission.waiting:
            self._move(now)
        self._watch_flights()

    def _move(self, now: float) -> None:
        """Nobody waits and slots are free: let idle endpoints race slow ones."""
        if not self._hedges or self._flights.surveyed(now):
            return
        loads, limits = self._router.loads, self._router.limits
        idle = [i for i, load in enumerate(loads) for _ in range(min(limits[i], self._share) - load)]
        for flight, index in self._flights.movable(now, idle, lambda flight, index: index in flight.owner.view):
            self._race(flight, index)

    def _race(self, flight: Flight, index: int | None) -> None:
        """Give an attempt a rival; a rival that is late itself gives way to another one."""
        errand: _Errand = flight.owner
        if errand.rival is not None and flight is errand.rival_flight:
            self._end_rival(errand, "a further endpoint was asked instead")
        if errand.rival is None and not self._closed:
            rival = asyncio.get_running_loop().create_task(self._rival(errand, flight.index, index))
            errand.rival = rival
            self._rivals.add(rival)
            rival.add_done_callback(self._rivals.discard)

    def _end_rival(self, errand: _Errand, reason: str) -> None:
        """Cancel a rival that is of no more use; what it had sent counts as an attempt."""
        rival, flight = errand.rival, errand.rival_flight
        errand.rival = errand.rival_flight = None
        if rival is not None:
            rival.cancel()
        if flight is not None:
            self._note_cancelled(flight.index, errand, flight.began, reason)

    async def _rival(self, errand: _Errand, first: int, pin: int | None) -> None:
        """Ask another endpoint as well; a success ends the first attempt, a failure is tried again elsewhere."""
        errand.avoid |= {first}
        while True:
            ticket = Ticket(errand.view, pin=pin, since=errand.started, avoid=errand.avoid)
            index = self._admission.request(ticket) if pin is None else self._admission.request_now(ticket)
            if index is None and pin is None:
                index = await self._wait(ticket, errand)
            if index is None:
                return
            try:
                if index in ticket.avoid or await self._fly_as_rival(index, errand):
                    return
            finally:
                self._admission.release(index)
            if not errand.flying or len(errand.failures) >= self._retry.max_attempts or not self._budget.spend():
                return
            pin = None

    async def _fly_as_rival(self, index: int, errand: _Errand) -> bool:
        began = self._now()
        flight = errand.rival_flight = Flight(index, began, errand)
        self._ward.sent(index)
        self._flights.add(flight)
        try:
            prize = await self._send(self.endpoints[index], errand, began)
        except CallError as error:
            errand.rival_flight = None
            self._note_failure(index, errand, error, began)
            return False
        else:
            errand.prize, errand.endpoint_of_prize = prize, self.endpoints[index]
            errand.rival_flight = None
            self._note_success(index, errand, began)
            if errand.flying and errand.task is not None:
                errand.flying = False
                errand.task.cancel()
            return True
        finally:
            self._flights.remove(flight)

    async def _outcome_of_race(self, errand: _Errand) -> bool:
        """The first attempt failed; if a rival is under way, its answer counts."""
        while (rival := errand.rival) is not None:
            await asyncio.wait([rival])
            if errand.rival is rival:
                errand.rival = None
        if errand.prize is None:
            return False
        errand.endpoint = errand.endpoint_of_prize
        return True

    # -- outages -----------------------------------------------------------------------------------------------

    def _watch_outages(self) -> None:
        """An endpoint opened or closed: whoever waits for a closed fleet has a limit to that."""
        for view in self._admission.views():
            self._watch_outage(view)
        for view in [v for v in self._outages if not v.out]:
            self._outages.pop(view).cancel()

    def _abandon(self, index: int) -> None:
        for ticket in self._admission.waiters_for(index):
            if ticket.strict:
                self._evict_one(ticket)


async def _both(one: Any, other: Any) -> tuple[Any, Any]:
    first, second = await _all(one, other)
    return first, second


async def _all(*work: Any) -> Sequence[Any]:
    """All results in order; where one raises or the caller is cancelled, the rest is cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
    return [task.result() for task in tasks]


def _only(prize: Any) -> Reply | None:
    """The reply of a single call; a bundle's parts are taken from the errand itself."""
    return prize if isinstance(prize, Reply) else Reply("")


def _no_clock() -> float:
    """Until a call brings a loop, no time has passed."""
    return 0.0


def _checked(limits: Limits) -> Limits:
    for name in limits.__struct_fields__:
        if not getattr(limits, name) > 0:
            raise UsageError(f"{name} is {getattr(limits, name)}", remedy=f"give {name} a value above 0")
    return limits
