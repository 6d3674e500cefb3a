"""Until when each worker may keep its task. Pure: the time is an argument.

A lease ends so many seconds after the last sign of life, a task's own time so many after its beginning. While a lease
is held neither of them passes. Every operation takes logarithmic time at most: a sign of life moves no entry; an entry
that turns out to be too early is put back when its time comes.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import Literal

import msgspec

Lapse = Literal["silent", "too long"]

ENOUGH = 8
"""Calls that must have been answered before one can be called slow."""

PATIENCE = 4.0
"""A call is hopeless when it takes so many times as long as the slowest of the latest ones."""


class _Lease(msgspec.Struct):
    silent_at: float
    ends_at: float
    held_since: float | None = None

    @property
    def due(self) -> float:
        return min(self.silent_at, self.ends_at)


class Leases:
    """The leases that run.

    Args:
        lease_s: Seconds that a worker may give no sign of life.
    """

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._leases: dict[int, _Lease] = {}
        self._due: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._leases)

    def grant(self, number: int, now: float, timeout_s: float | None = None) -> None:
        """A lease begins.

        Args:
            number: Its number; a new one.
            now: The time.
            timeout_s: Seconds for the task, whatever signs of life there are; None for no bound.
        """
        lease = _Lease(now + self.lease_s, math.inf if timeout_s is None else now + timeout_s)
        self._leases[number] = lease
        heapq.heappush(self._due, (lease.due, number))

    def renew(self, number: int, now: float) -> None:
        """A sign of life; nothing happens for a lease that has ended."""
        lease = self._leases.get(number)
        if lease is not None and lease.held_since is None:
            lease.silent_at = now + self.lease_s

    def end(self, number: int) -> None:
        """The worker has come back, or lost the task."""
        self._leases.pop(number, None)

    def hold(self, number: int, now: float) -> None:
        """Time stands still for a lease; nothing happens when it does already."""
        lease = self._leases.get(number)
        if lease is not None and lease.held_since is None:
            lease.held_since = now

    def release(self, number: int, now: float) -> None:
        """Time goes on for it."""
        lease = self._leases.get(number)
        if lease is None or lease.held_since is None:
            return
        stood_s = now - lease.held_since
        lease.silent_at += stood_s
        lease.ends_at += stood_s
        lease.held_since = None
        heapq.heappush(self._due, (lease.due, number))

    def lapsed(self, now: float) -> list[tuple[int, Lapse]]:
        """The leases whose time is over, and why; one that is neither renewed nor ended is told again next time."""
        found: dict[int, Lapse] = {}
        while self._due and self._due[0][0] <= now:
            _, number = heapq.heappop(self._due)
            lease = self._leases.get(number)
            if lease is None or lease.held_since is not None:
                continue
            if lease.due <= now:
                found[number] = "too long" if lease.ends_at <= now else "silent"
            else:
                heapq.heappush(self._due, (lease.due, number))
        for number in found:
            heapq.heappush(self._due, (self._leases[number].due, number))
        return list(found.items())

    def next_due(self) -> float | None:
        """When to look at `lapsed` next; None when no lease runs. It may be too early, never too late."""
        return self._due[0][0] if self._due else None


class CallPace:
    """What calls to the model take at the moment, waiting in queues included."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=64)

    def note(self, seconds: float) -> None:
        """A call has ended."""
        self._latest.append(seconds)

    def patience_s(self, least_s: float) -> float:
        """How long a call may take before it is given up; without end while little is known.

        The pool has a deadline of its own for each call, so that even then it ends.

        Args:
            least_s: No call is given up before.
        """
        return max(least_s, PATIENCE * max(self._latest)) if len(self._latest) >= ENOUGH else math.inf
