"""Gives late attempts a rival on another endpoint, as `hedging` decides; the first answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aurora_swarm.dispatch.admission import Admission, Ticket
from aurora_swarm.dispatch.budget import RetryBudget
from aurora_swarm.dispatch.errand import Errand, Race, RivalFlight
from aurora_swarm.dispatch.hedging import SLOW, Flight, Flights, Pace
from aurora_swarm.dispatch.retry import Verdict, judge
from aurora_swarm.dispatch.routing import Router
from aurora_swarm.dispatch.waiting import CLOCK_TICK_S, WaitingRoom
from aurora_swarm.dispatch.ward import Ward
from aurora_swarm.errors import AttemptTimeoutError, CallCancelledError, CallError, EndpointError
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Attempt
from aurora_swarm.values.policy import HedgePolicy
from aurora_swarm.values.reply import Reply

IDLE_PART = 64
"""Slots are idle where more than one in so many is free: an answer leaves one for a moment, until the next call."""

LATEST = 0.03
"""Weight of the latest attempt in the share that failed."""

FORGIVEN = 16.0
"""How long an endpoint is known as slow that is given nothing to do, in the time that its answers take."""


class Races:
    """Watches attempts and runs their rivals.

    A rival that wins ends the first attempt by cancelling its task, as `asyncio.timeout` does; the attempt sees the
    prize and takes the cancellation back.

    Args:
        endpoints: The fleet.
        transport: How a rival asks.
        policy: When an attempt gets a rival; None for never.
        router: Knows who idles.
        admission: Grants rivals their slots.
        waiting: Where rivals wait for them.
        ward: Told of endpoints that let calls hang.
        budget: Pays for rivals that failed and are tried again.
        share: Calls per endpoint that make it busy.
        timeout_s: Longest attempt.
        tries: Attempts per call at most.

    Attributes:
        failing: Share of the latest attempts, 33 or so, that failed by the fault of an endpoint.
    """

    def __init__(
        self,
        endpoints: Sequence[AgentEndpoint],
        transport: Transport,
        policy: HedgePolicy | None,
        *,
        router: Router,
        admission: Admission,
        waiting: WaitingRoom,
        ward: Ward,
        budget: RetryBudget,
        share: int,
        timeout_s: float,
        tries: int,
    ) -> None:
        self.on = policy is not None and len(endpoints) > 1
        self.pace = Pace(len(endpoints), policy or HedgePolicy())
        self.flights = Flights(self.pace, policy or HedgePolicy(), router.loads)
        self._endpoints = endpoints
        self._transport = transport
        self._router = router
        self._admission = admission
        self._waiting = waiting
        self._ward = ward
        self._budget = budget
        self._share = share
        self._timeout_s = timeout_s
        self._tries = tries
        self._alarm: asyncio.TimerHandle | None = None
        self._rivals: set[asyncio.Task[None]] = set()
        self.failed = [0] * len(endpoints)
        self.succeeded = [0] * len(endpoints)
        self.failing = 0.0

    # -- what happens to attempts ------------------------------------------------------------------------------

    def enter(self, errand: Errand) -> None:
        """An attempt was sent that may get a rival, or found none and may get one later."""
        errand.flying = True
        self.flights.add(errand)
        if self._alarm is None and self.pace.overdue_s is not None:
            self._set_alarm()

    def note_answer(self, index: int, reply: Reply, began: float, now: float) -> None:
        """An endpoint answered one call."""
        latency_s = now - began
        self.succeeded[index] += 1
        self.failing -= LATEST * self.failing
        self.pace.answered(index, latency_s, now)
        if self.pace.slow or latency_s > SLOW * self.pace.typical_s:
            self._sort(index, now)
        self._ward.answered(index, reply.usage.completion_tokens or 1.0, latency_s, now)
        if self._idle_slots:
            self._move(now)
        if self._alarm is None and self.on:  # the first answers tell what is late
            self._set_alarm()

    def note_failure(self, index: int, errand: Errand, error: CallError, began: float, now: float) -> None:
        """An attempt failed."""
        self.failed[index] += 1
        errand.note(index, Attempt(self._endpoints[index], error, now - began))
        errand.error = error
        if isinstance(error, EndpointError):
            self.failing += LATEST * (1.0 - self.failing)
        self._ward.failed(index, error, now)

    def note_beaten(self, errand: Errand, now: float) -> None:
        """A rival was faster. An endpoint that answered nobody meanwhile is on its way to a rest."""
        index, began = errand.index, errand.began
        self._note_cancelled(index, errand, began, now, "another endpoint answered first")
        if self.pace.last_answer[index] < began:
            self._ward.failed(index, self._silence(index, now - began), now)
        assert errand.race is not None
        errand.endpoint, errand.race = errand.race.endpoint, None

    def end(self, errand: Errand, reason: str, now: float) -> None:
        """Cancel a rival that is of no more use; what it had sent counts as an attempt."""
        race, errand.race = errand.race, None
        if race is None:
            return
        race.task.cancel()
        if race.flight is not None:
            self._note_cancelled(race.flight.index, errand, race.flight.began, now, reason)

    async def outcome(self, errand: Errand) -> bool:
        """The first attempt failed: whether a rival that is under way brings an answer."""
        while (race := errand.race) is not None:
            await asyncio.wait([race.task])
            if errand.race is race:
                errand.race = None
                errand.endpoint = race.endpoint if errand.prize is not None else errand.endpoint
        return errand.prize is not None

    async def aclose(self) -> None:
        """End all rivals. May be called twice."""
        if self._alarm is not None:
            self._alarm.cancel()
        rivals = list(self._rivals)
        for rival in rivals:
            rival.cancel()
        await asyncio.gather(*rivals, return_exceptions=True)

    def _note_cancelled(self, index: int, errand: Errand, began: float, now: float, reason: str) -> None:
        self.failed[index] += 1
        endpoint = self._endpoints[index]
        errand.note(index, Attempt(endpoint, CallCancelledError(reason, endpoint=endpoint.url), now - began))

    def _silence(self, index: int, age_s: float) -> AttemptTimeoutError:
        url = self._endpoints[index].url
        return AttemptTimeoutError(f"it answered nobody for {age_s:.3g} s, while others did", endpoint=url)

    def _sort(self, index: int, now: float) -> None:
        """Whether an endpoint that answered is slow; those known as such for long get another chance."""
        if self.pace.is_slow(index):
            self._set_behind(index, now + FORGIVEN * self.pace.means[index])
        elif self.pace.slow.pop(index, None) is not None:
            self._router.set_behind(index, behind=False)
        oldest = next(iter(self.pace.slow), index)
        if self.pace.slow.get(oldest, now) < now:
            del self.pace.slow[oldest]
            self.pace.forget(oldest)
            self._router.set_behind(oldest, behind=False)

    def _set_behind(self, index: int, until: float) -> None:
        if index not in self.pace.slow:
            self._router.set_behind(index, behind=True)
        self.pace.slow[index] = until

    # -- who gets a rival --------------------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        """Look again when the oldest attempt becomes late, or earlier where endpoints idle beside slow ones."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self.flights.next_due(now)
        if due is None or self._waiting.closed:
            self._alarm = None
            return
        if self._idle_slots:
            due = min(due, now + self.flights.survey_s)
        self._alarm = loop.call_at(max(due, now + CLOCK_TICK_S), self._look)

    def _look(self) -> None:
        now = asyncio.get_running_loop().time() + CLOCK_TICK_S
        for flight in self.flights.overdue(now, idle=self._idle_slots):
            self._start(flight, None, now)
            if self.pace.last_answer[flight.index] < flight.began:  # until it answers somebody
                self._set_behind(flight.index, now + FORGIVEN * self.pace.typical_s)
        for flight in self.flights.silent(now):
            self._ward.silent(flight.index, self._silence(flight.index, now - flight.began), now)
            self._start(flight, None, now)
        if self._idle_slots:
            self._move(now)
        self._set_alarm()

    @property
    def _idle_slots(self) -> bool:
        """Whether slots stay free: more than the answers of a moment leave for whoever asks next."""
        return self._admission.free * IDLE_PART > len(self.flights) and not self._admission.waiting

    def _move(self, now: float) -> None:
        """Nobody waits and slots are free: let idle endpoints race slow ones."""
        if not self.on or self.flights.surveyed(now):
            return
        for flight, index in self.flights.movable(now, self._idle, _may_move):
            self._start(flight, index, now)

    def _idle(self) -> list[tuple[int, int]]:
        """Endpoints with free places, and how many."""
        limits, share = self._router.limits, self._share
        places = ((i, min(limits[i], share) - load) for i, load in enumerate(self._router.loads))
        return [place for place in places if place[1] > 0]

    def _start(self, flight: Flight, pin: int | None, now: float) -> None:
        """Give an attempt a rival; a rival that is late itself gives way to another one."""
        errand = _errand(flight)
        if errand.race is not None and flight is errand.race.flight:
            self.end(errand, "a further endpoint was asked instead", now)
        if errand.race is None and not self._waiting.closed:
            errand.avoid |= {flight.index}
            task = asyncio.get_running_loop().create_task(self._rival(errand, pin))
            errand.race = Race(task)
            self._rivals.add(task)
            task.add_done_callback(self._rivals.discard)

    # -- the rival ---------------------------------------------------------------------------------------------

    async def _rival(self, errand: Errand, pin: int | None) -> None:
        """Ask another endpoint as well; a failure is tried again elsewhere."""
        race = errand.race
        while race is not None:
            index = await self._place(Ticket(errand.view, pin=pin, since=errand.since, avoid=errand.avoid), errand)
            if index is None:
                self._forgo(errand, race)
                return
            try:
                if index in errand.avoid or await self._fly(index, errand, race):
                    return
            finally:
                self._admission.release(index)
            if not errand.flying or len(errand.failures) >= self._tries or _is_final(errand):
                return
            if not self._budget.spend():
                return
            pin = None

    def _forgo(self, errand: Errand, race: Race) -> None:
        """The place that a rival was meant for is taken: the attempt may get one later."""
        if errand.race is race and errand.flying:
            errand.race = None
            self.enter(errand)

    async def _place(self, ticket: Ticket, errand: Errand) -> int | None:
        if ticket.pin is not None:
            return self._admission.take(ticket)
        index = self._admission.request(ticket)
        return await self._waiting.wait(ticket, errand.deadline) if index is None else index

    async def _fly(self, index: int, errand: Errand, race: Race) -> bool:
        """One attempt of a rival; whether it brought an answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        flight = race.flight = RivalFlight(index, began, errand)
        self.flights.add(flight)
        if index in self._ward.unseen:
            self._ward.sent(index)
        timeout_s = min(self._timeout_s, max(errand.deadline - began, 0.001))
        try:
            prize = await self._transport.send(self._endpoints[index], errand.call, timeout_s=timeout_s)
        except CallError as error:
            race.flight = None
            self.note_failure(index, errand, error, began, loop.time())
            return False
        finally:
            self.flights.remove(flight)
        race.flight = None
        race.endpoint = self._endpoints[index]
        errand.prize = prize
        self.note_answer(index, prize, began, loop.time())
        if errand.flying and errand.task is not None:
            errand.flying = False
            errand.task.cancel()
        return True


def _is_final(errand: Errand) -> bool:
    """Whether the latest failure would be the same everywhere."""
    return errand.error is not None and judge(errand.error) is Verdict.FINAL


def _may_move(flight: Flight, index: int) -> bool:
    """Calls with a prefix stay where it is computed: elsewhere they would take longer than others took."""
    errand = _errand(flight)
    known = index == flight.index or index in errand.avoid
    return index in errand.view and not known and not errand.call.prefix


def _errand(flight: Flight) -> Errand:
    if isinstance(flight, RivalFlight):
        return flight.errand
    assert isinstance(flight, Errand)
    return flight
