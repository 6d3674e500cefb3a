"""Equal calls share one execution while it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

import msgspec


class Execution(msgspec.Struct, frozen=True):
    """How one execution ended.

    Args:
        text: What the model is told.
        ok: Whether it succeeded.
    """

    text: str
    ok: bool


Execute = Callable[[], Coroutine[Any, Any, Execution]]


class _Flight:
    """An execution, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Execution], *, is_last: bool) -> None:
        self.task = task
        self.is_last = is_last
        self.waiting = 0


class Flights:
    """Executions under way, by the identity of the call.

    An execution belongs to all who wait for it: it goes on when the one who asked first is cancelled, and is
    cancelled with the last of them. Its failure is told to the one who asked first; the others execute once more,
    together, and how that ends is the answer of them all, so that a tool that always fails costs each of them two
    executions' time at most.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}
        self._tasks: set[asyncio.Task[Execution]] = set()

    async def join(self, key: Hashable, execute: Execute) -> tuple[Execution, bool]:
        """Execute, or wait for an equal call that executes already.

        Args:
            key: Identity of the call.
            execute: Executes it; tells failures rather than raising them.

        Returns:
            How it ended, and whether it was executed for this caller.
        """
        follows_failure = False
        while True:
            flight = self._flights.get(key)
            # One that has just ended may still be listed: its callbacks run later.
            own = flight is None or flight.task.done()
            if flight is None or own:
                flight = self._start(key, execute, is_last=follows_failure)
            execution = await self._result(key, flight)
            if execution.ok or own or flight.is_last:
                return execution, own
            follows_failure = True

    async def aclose(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: Hashable, execute: Execute, *, is_last: bool) -> _Flight:
        task = asyncio.get_running_loop().create_task(execute())
        flight = self._flights[key] = _Flight(task, is_last=is_last)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(key, flight, done))
        return flight

    async def _result(self, key: Hashable, flight: _Flight) -> Execution:
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                # Taken away at once: whoever comes now must not wait for what is being cancelled.
                self._remove(key, flight)
                flight.task.cancel()

    def _ended(self, key: Hashable, flight: _Flight, task: asyncio.Task[Execution]) -> None:
        self._remove(key, flight)
        self._tasks.discard(task)

    def _remove(self, key: Hashable, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
