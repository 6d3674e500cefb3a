"""Upper bounds that others set on endpoints while these work, and those who wait for an endpoint to drain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from aurora_swarm.dispatch.routing import UNLIMITED


class Bounds:
    """How many calls each endpoint may have at most, whatever its health and its window allow.

    An endpoint whose bound is 0 still counts as open: whoever waits for it waits for its turn, not for a repair.

    Args:
        loads: Calls that each endpoint has.
        waiting: How many calls wait for a slot.
        apply: Called when the bound of an endpoint has changed.

    Attributes:
        limits: The bounds, by endpoint; those that are not here have none.
        slots_found: Called with an endpoint and the sequences that it says to run at a time, where somebody asks.
    """

    def __init__(self, loads: Sequence[int], waiting: Callable[[], int], apply: Callable[[int], None]) -> None:
        self._loads = loads
        self._waiting = waiting
        self._apply = apply
        self.limits: dict[int, int] = {}
        self.slots_found: Callable[[int, int], None] | None = None
        self._until: dict[int, float] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._drains: dict[int, tuple[int, asyncio.Future[None]]] = {}
        self._pressed: set[asyncio.Future[None]] = set()

    @property
    def waiting(self) -> int:
        """Calls that wait for a slot of any endpoint."""
        return self._waiting()

    def load(self, index: int) -> int:
        """Calls that an endpoint has now."""
        return self._loads[index]

    def limit(self, index: int) -> int:
        """The endpoint's bound."""
        return self.limits.get(index, UNLIMITED)

    def set(self, index: int, limit: int | None, *, until: float = math.inf) -> None:
        """Bound an endpoint. Calls that it has already run on: it drains.

        Args:
            index: Who.
            limit: Calls at a time; None for no bound any more.
            until: When the bound becomes 0 unless it was set again, on the loop's clock.
        """
        timer = self._timers.pop(index, None)
        if timer is not None:
            timer.cancel()
        self._until.pop(index, None)
        if limit is None:
            self.limits.pop(index, None)
        else:
            self.limits[index] = limit
            if limit and until < math.inf:
                self._end_at(index, until)
        self._apply(index)

    def _end_at(self, index: int, until: float) -> None:
        loop = asyncio.get_running_loop()
        if until <= loop.time():
            self.limits[index] = 0
        else:
            self._until[index] = until
            self._timers[index] = loop.call_at(until, self.set, index, 0)

    def released(self, index: int) -> None:
        """A call of the endpoint has ended; called before another one gets its slot."""
        until = self._until.get(index)
        if until is not None and asyncio.get_running_loop().time() >= until:
            self.set(index, 0)  # this process was held up: the timer is late as well
        drain = self._drains.get(index)
        if drain is not None and self._loads[index] <= drain[0] and not drain[1].done():
            drain[1].set_result(None)

    def pressed(self) -> None:
        """A call has to wait."""
        for waiter in self._pressed:
            if not waiter.done():
                waiter.set_result(None)

    async def drained(self, index: int, load: int, until: float) -> bool:
        """Wait until an endpoint has few calls. One at a time may wait for an endpoint.

        Args:
            index: Who.
            load: How many it may have.
            until: When to stop waiting, on the loop's clock.

        Returns:
            Whether it has no more than that.
        """
        if self._loads[index] > load:
            drain = asyncio.get_running_loop().create_future()
            self._drains[index] = load, drain
            try:
                await _until(drain, until)
            finally:
                del self._drains[index]
        return self._loads[index] <= load

    async def wanted(self, until: float = math.inf) -> None:
        """Wait until a call has to wait, at once where one does already."""
        if self._waiting():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._pressed.add(waiter)
        try:
            await _until(waiter, until)
        finally:
            self._pressed.discard(waiter)


async def _until(future: asyncio.Future[None], until: float) -> None:
    if until == math.inf:
        await future
    else:
        await asyncio.wait([future], timeout=max(until - asyncio.get_running_loop().time(), 0.0))
