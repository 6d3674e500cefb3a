"""Sees to the endpoints: acts on what `health` and `windows` decide, with probes, timers and limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aurora_swarm.dispatch.admission import Admission
from aurora_swarm.dispatch.bounds import Bounds
from aurora_swarm.dispatch.health import Condition, Health
from aurora_swarm.dispatch.routing import UNLIMITED, Router
from aurora_swarm.dispatch.waiting import CLOCK_TICK_S, WaitingRoom
from aurora_swarm.dispatch.windows import Windows
from aurora_swarm.errors import CallError, EndpointError, OverloadedError, WrongModelError
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo

UNPROVEN = 3
"""Calls that an endpoint may have at a time before it has answered one; every failure takes one
away, every answer doubles that, a probe lifts it."""

TOGETHER_S = 0.02
"""Longest time for which endpoints that answered their first probe wait for others, so that work spreads over all."""

LOAD_EVERY_S = 2.0
"""Seconds between two looks at an endpoint's own account of its load, while its window is full."""

_FAULTS = (EndpointError, OverloadedError, WrongModelError)


class Ward:
    """The state of every endpoint, and the limit that follows from it.

    An endpoint may have as many calls as its health, its window, its record and its bound allow, whichever is least.

    Args:
        endpoints: The fleet.
        transport: How an endpoint is probed.
        router: Told the limits.
        admission: Told who opens and who closes.
        health: Decides who rests.
        windows: Decides how many calls an endpoint should have.
        share: Calls per endpoint that fill the pool.
        probe_timeout_s: Longest probe.
        waiting: Told who opens and closes, and when a probe failed.
        told: Called with what a probe learned.

    Attributes:
        bounds: What others allow at most.
        unseen: Endpoints that have neither proved themselves nor been looked at; `sent` is of interest for them only.
    """

    def __init__(
        self,
        endpoints: Sequence[AgentEndpoint],
        transport: Transport,
        router: Router,
        admission: Admission,
        *,
        health: Health,
        windows: Windows,
        share: int,
        probe_timeout_s: float,
        waiting: WaitingRoom,
        told: Callable[[int, EndpointInfo], None],
    ) -> None:
        self._endpoints = endpoints
        self._transport = transport
        self._router = router
        self._admission = admission
        self.health = health
        self.windows = windows
        self._share = share
        self._probe_timeout_s = probe_timeout_s
        self._waiting = waiting
        self._told = told
        self.bounds = Bounds(router.loads, lambda: admission.waiting, self._apply)
        admission.released = self.bounds.released
        self._allowed = [UNPROVEN] * len(endpoints)
        self._pardons = bytearray([UNPROVEN]) * len(endpoints)
        self._looking = 0
        self.unseen = set(range(len(endpoints)))
        self._proven: list[int] = []
        self._sharing: list[int] = []
        self._load_due: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = False

    # -- what happened -----------------------------------------------------------------------------------------

    def sent(self, index: int) -> None:
        """A call went to an endpoint; one that is full without having proved itself is looked at meanwhile."""
        if self._router.loads[index] < UNPROVEN:
            return
        self.unseen.discard(index)
        if self._allowed[index] <= UNPROVEN:
            self._looking += 1
            self._start(self._look(index))

    def answered(self, index: int, work: float, latency_s: float, now: float) -> None:
        """An endpoint answered one call."""
        load, limit = self._router.loads[index], self._router.limits[index]
        changed = False
        if (load >= limit and self._allowed[index] >= UNLIMITED) or index in self.windows.awake:
            changed = self.windows.finished(index, work, latency_s, load, now)
            if load >= limit and now >= self._load_due.get(index, 0.0):
                self._load_due[index] = now + LOAD_EVERY_S
                self._start(self._ask_load(index))
        if changed or self._allowed[index] < UNLIMITED or self.health.knows(index):
            self.well(index, now)

    def well(self, index: int, now: float) -> None:
        """An endpoint did what it should: whatever was held against it is forgotten."""
        allowed = 2 * self._allowed[index]
        self._allowed[index] = allowed if allowed < self.windows.limit(index) else UNLIMITED
        if self._allowed[index] == UNLIMITED:
            self.unseen.discard(index)
        if self.health.condition(index) is Condition.TRIAL:
            self.windows.restart(index, now)
        self.health.succeeded(index)
        self._apply(index)

    def failed(self, index: int, error: CallError, now: float) -> None:
        """An attempt failed."""
        if not isinstance(error, _FAULTS):
            return
        if self._allowed[index] <= UNPROVEN:
            self._allowed[index] = max(self._allowed[index] - 1, 1)
        if isinstance(error, EndpointError):
            self.health.failed(index, error, now)
        elif isinstance(error, OverloadedError):
            self.health.overloaded(index, error, error.retry_after_s, now)
        else:
            self.health.exclude(index, error)
            self._waiting.abandon(index)
        self._apply(index)

    def pardons(self, index: int) -> bool:
        """Whether a failure is held against the endpoint alone: the first three of one that never answered are."""
        if self._allowed[index] > UNPROVEN or not self._pardons[index]:
            return False
        self._pardons[index] -= 1
        return True

    def silent(self, index: int, error: CallError, now: float) -> None:
        """An endpoint lets its calls hang."""
        self.health.silent(index, error, now)
        self._apply(index)

    def slots(self, index: int, slots: int) -> None:
        """An endpoint told how many sequences it runs at a time."""
        self.windows.fix(index, slots)
        self._apply(index)

    async def aclose(self) -> None:
        """Stop probing. May be called twice."""
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what follows ------------------------------------------------------------------------------------------

    def _apply(self, *indices: int) -> None:
        """Give endpoints the limits that follow from what is known, all of them before anybody is placed."""
        router = self._router
        changes = []
        for index in indices:
            limit, trial = self._limit(index), self.health.condition(index) is Condition.TRIAL
            well = self.health.limit(index) > 1
            was, was_closed = router.limits[index], router.closed[index]
            if limit != was or was_closed == well:
                router.set_limit(index, limit, trial=trial, well=well)
                changes.append((index, was, limit, was_closed != router.closed[index]))
        for index, was, limit, _ in changes:
            if limit > was:
                self._admission.opened(index)
            elif not limit:
                self._admission.unpin(index)
        if any(turned for _, _, _, turned in changes):
            self._waiting.watch()
        if changes:
            self._set_alarm()

    def _limit(self, index: int) -> int:
        found = min(self.health.limit(index), self.windows.limit(index), self._allowed[index])
        return min(found, self.bounds.limits.get(index, found))

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        due = self.health.next_due()
        self._alarm = None
        if due is not None and not self._closed:
            self._alarm = asyncio.get_running_loop().call_at(due, self._wake)

    def _wake(self) -> None:
        probes, cooled = self.health.wake(asyncio.get_running_loop().time() + CLOCK_TICK_S)
        for index in cooled:
            self._apply(index)
        for index in probes:
            self._start(self._probe(index))
        self._set_alarm()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probe(self, index: int) -> None:
        error: CallError | None = None
        try:
            await self._transport.probe(self._endpoints[index], timeout_s=self._probe_timeout_s)
        except CallError as failure:
            error = failure
            self._waiting.abandon(index)
        else:
            self._allowed[index] = UNLIMITED
        self.health.probed(index, error, asyncio.get_running_loop().time())
        self._apply(index)
        self._set_alarm()

    async def _look(self, index: int) -> None:
        """A probe that can only speak for an endpoint: where it fails, calls will tell."""
        try:
            info = await self._transport.probe(self._endpoints[index], timeout_s=self._probe_timeout_s)
        except CallError:
            pass
        else:
            self._proven.append(index)
            self._told(index, info)
        finally:
            self._looking -= 1
        if not self._looking:
            self._open_proven()
            self._open(self._sharing, UNLIMITED)
            self._sharing = []
        elif len(self._proven) == 1:
            asyncio.get_running_loop().call_later(TOGETHER_S, self._open_proven)

    def _open_proven(self) -> None:
        """Let those who answered have their share, and no more while others are looked at: theirs is to go to them."""
        proven, self._proven = self._proven, []
        self._sharing += proven
        self._open(proven, self._share)

    def _open(self, indices: Sequence[int], allowed: int) -> None:
        for index in indices:
            self._allowed[index] = max(self._allowed[index], allowed)
        self._apply(*indices)

    async def _ask_load(self, index: int) -> None:
        try:
            load = await self._transport.load(self._endpoints[index], timeout_s=self._probe_timeout_s)
        except CallError:
            return
        now = asyncio.get_running_loop().time()
        if load is None:
            self._load_due[index] = float("inf")
        elif self.windows.observe(index, load.running, load.waiting, self._router.loads[index], now):
            self._apply(index)
