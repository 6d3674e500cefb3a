"""One endpoint in memory: a capacity, a silent queue, and its faults."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

from aurora_swarm.errors import (
    AbortedError,
    AttemptTimeoutError,
    BadResponseError,
    CallError,
    ConnectError,
    ConnectionLostError,
    OverloadedError,
    ServerError,
    TruncatedError,
    WrongModelError,
)
from aurora_swarm.testing.simulation.faults import SEEN_BY_PARTS, SEEN_BY_PROBES, Fault, Kind

PROBE_S = 0.005
"""Seconds that a probe takes."""
REFUSAL_S = 0.002
"""Seconds until a bad prompt is refused."""


class EndpointPlan(msgspec.Struct, frozen=True):
    """How an endpoint behaves while nothing is wrong, and what is wrong with it.

    Args:
        latency_s: Seconds that an answer takes once it is being generated.
        capacity: Sequences generated at a time; further ones queue, first come, first served, without a word.
        jitter: An answer takes up to this share more or less.
        faults: Looked through in order for each request; the first one that hits counts.
        batches: Whether it takes many calls in one request.
        tells_load: Whether it tells what it runs and what waits.
    """

    latency_s: float = 1.0
    capacity: int = 8
    jitter: float = 0.0
    faults: tuple[Fault, ...] = ()
    batches: bool = True
    tells_load: bool = False

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong with it at any time."""
        return not self.faults


_ENDINGS: dict[Kind, tuple[type[CallError], str]] = {
    "refuse": (ConnectError, "connection refused"),
    "reset": (ConnectionLostError, "the connection was reset"),
    "server_error": (ServerError, "internal server error"),
    "garbage": (BadResponseError, "the answer is not JSON"),
    "truncated": (TruncatedError, "the stream ended without its end"),
    "abort": (AbortedError, "the engine gave up"),
    "wrong_model": (WrongModelError, "it serves another model"),
}
_GENERATED: frozenset[Kind] = frozenset(("reset", "truncated", "abort", "slow", "lost_parts"))
"""Kinds whose requests take capacity until they end."""
_HANGS: frozenset[Kind] = frozenset(("hang", "gray"))


def error_of(fault: Fault, url: str) -> CallError:
    """What a request that meets `fault` fails with, where it fails at once or half-way."""
    if fault.kind == "overloaded":
        return OverloadedError("too many requests", endpoint=url, status=429, retry_after_s=fault.retry_after_s)
    kind, problem = _ENDINGS[fault.kind]
    return kind(problem, endpoint=url)


class Job:
    """One request that is generated, or waits for that.

    Args:
        weight: Sequences that it takes.
        service_s: Seconds of generating.
        error: What it ends with; None for an answer.
        done: Set when it ends.
    """

    __slots__ = ("alarm", "done", "error", "finish", "service_s", "weight")

    def __init__(self, weight: int, service_s: float, error: CallError | None, done: asyncio.Future[None]) -> None:
        self.weight = weight
        self.service_s = service_s
        self.error = error
        self.done = done
        self.finish: asyncio.TimerHandle | None = None
        self.alarm: asyncio.TimerHandle | None = None

    def end(self, error: CallError | None) -> None:
        """It ends, with an error or with an answer."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class SimulatedServer:
    """What stands behind one endpoint.

    Args:
        url: Named in errors.
        plan: How it behaves.
        dice: Draws faults and jitter.
        injected: Counts the faults that requests met, by kind; shared by a fleet.

    Attributes:
        requests: Requests so far.
        probes: Probes so far.
        calls: Calls in those requests.
        open: Calls in requests that came and have not ended.
        most_open: Most calls that were open at a time.
        running: Sequences being generated.
    """

    def __init__(self, url: str, plan: EndpointPlan, dice: random.Random, injected: Counter[Kind]) -> None:
        self.url = url
        self.plan = plan
        self._dice = dice
        self._injected = injected
        self._queue: deque[Job] = deque()
        self.requests = self.probes = self.calls = self.open = self.most_open = self.running = 0

    @property
    def queued(self) -> int:
        """Sequences that wait to be generated."""
        return sum(job.weight for job in self._queue)

    async def serve(self, weight: int, timeout_s: float, refusal: CallError | None = None) -> bool:
        """Take a request for `weight` answers to its end.

        Args:
            weight: How many answers.
            timeout_s: Longest time.
            refusal: What the request is refused with, where the endpoint is well enough to look at it.

        Returns:
            Whether some of the answers are missing.

        Raises:
            CallError: The request failed.
        """
        self.requests += 1
        self.calls += weight
        self.open += weight
        self.most_open = max(self.open, self.most_open)
        try:
            fault = self._meet(asyncio.get_running_loop().time(), weight, refusal)
            if refusal is not None and fault is None:
                await asyncio.sleep(REFUSAL_S)
                raise refusal
            if fault is None or fault.kind in _GENERATED:
                await self._generate(weight, fault, timeout_s)
            else:
                await self._refuse(fault, timeout_s)
        finally:
            self.open -= weight
        return fault is not None and fault.kind == "lost_parts"

    async def look(self, timeout_s: float) -> None:
        """Take a probe to its end.

        Raises:
            CallError: The probe failed.
        """
        self.probes += 1
        now = asyncio.get_running_loop().time()
        fault = self._drawn([f for f in self.plan.faults if f.kind in SEEN_BY_PROBES], now)
        if fault is not None:
            await self._refuse(fault, timeout_s)
        await asyncio.sleep(min(PROBE_S, timeout_s))

    async def _refuse(self, fault: Fault, timeout_s: float) -> None:
        delay_s = timeout_s if fault.kind in _HANGS else min(fault.delay_s, timeout_s)
        if delay_s:
            await asyncio.sleep(delay_s)
        if fault.kind in _HANGS:
            raise _timeout(timeout_s, self.url)
        raise error_of(fault, self.url)

    def _meet(self, now: float, weight: int, refusal: CallError | None) -> Fault | None:
        candidates = [f for f in self.plan.faults if weight > 1 or f.kind not in SEEN_BY_PARTS]
        if refusal is not None:
            candidates = [f for f in candidates if f.kind not in _GENERATED]
        fault = self._drawn(candidates, now)
        if fault is not None:
            self._injected[fault.kind] += 1
        return fault

    def _drawn(self, candidates: Sequence[Fault], now: float) -> Fault | None:
        for fault in candidates:
            if fault.is_on(now) and (fault.rate >= 1 or self._dice.random() < fault.rate):
                return fault
        return None

    # -- capacity and queue ------------------------------------------------------------------------------------

    async def _generate(self, weight: int, fault: Fault | None, timeout_s: float) -> None:
        job = Job(min(weight, self.plan.capacity), *self._fate(weight, fault), self._new_future())
        self._set_alarm(job, timeout_s)
        self._queue.append(job)
        self._start()
        try:
            await job.done
        finally:
            self._drop(job)

    def _fate(self, weight: int, fault: Fault | None) -> tuple[float, CallError | None]:
        """Seconds of generating, and the end."""
        plan = self.plan
        service_s = plan.latency_s * math.ceil(weight / plan.capacity)
        if plan.jitter:
            service_s *= 1 + plan.jitter * (2 * self._dice.random() - 1)
        if fault is None or fault.kind == "lost_parts":
            return service_s, None
        if fault.kind == "slow":
            return service_s * fault.factor, None
        return service_s / 2, error_of(fault, self.url)

    def _new_future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def _set_alarm(self, job: Job, timeout_s: float) -> None:
        """End the job at its timeout, or when the endpoint goes down."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        down = min((f.next_start(now) for f in self.plan.faults if f.cuts), default=math.inf)
        if down < now + timeout_s:
            job.alarm = loop.call_at(down, self._cut, job)
        else:
            job.alarm = loop.call_at(now + timeout_s, job.end, _timeout(timeout_s, self.url))

    def _cut(self, job: Job) -> None:
        if not job.done.done():
            self._injected["refuse"] += 1
            job.end(ConnectionLostError("the server went down", endpoint=self.url))

    def _start(self) -> None:
        """Generate what fits, in order of arrival."""
        loop = asyncio.get_running_loop()
        while self._queue and self.running + self._queue[0].weight <= self.plan.capacity:
            job = self._queue.popleft()
            self.running += job.weight
            job.finish = loop.call_later(job.service_s, job.end, job.error)

    def _drop(self, job: Job) -> None:
        """A job ended or its caller went away: nothing of it remains."""
        if job.alarm is not None:
            job.alarm.cancel()
        if job.finish is None:
            self._queue.remove(job)
        else:
            job.finish.cancel()
            self.running -= job.weight
        self._start()


def _timeout(timeout_s: float, url: str) -> AttemptTimeoutError:
    return AttemptTimeoutError(f"no whole answer within {timeout_s:.3g} s", endpoint=url)
