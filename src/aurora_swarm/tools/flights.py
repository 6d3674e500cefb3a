"""Executions under way: each in a task of its own, shared by all who wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any

import msgspec

GRACE_S = 1.0
"""How long a coroutine may take to end after it was cancelled. Then its frames are closed."""

_LOGGER = logging.getLogger(__name__)


class Execution(msgspec.Struct, frozen=True):
    """How one execution ended.

    Args:
        text: What the model is told.
        ok: Whether it succeeded.
        value: What a query returned, or what it found for one key.
        is_final: Of a failure, whether running it again would change nothing.
        is_late: Of a failure, whether it took too long.
        is_borrowed: Whether another process made the call.
    """

    text: str
    ok: bool
    value: Any = None
    is_final: bool = False
    is_late: bool = False
    is_borrowed: bool = False


Body = Callable[["Flight"], Coroutine[Any, Any, Execution]]
Ended = Callable[["Flight"], None]


class Flight:
    """An execution, and who waits for it.

    Waiting always ends: when the time that `arm` gives is over, the task is cancelled, and one that goes on
    nevertheless is closed after `GRACE_S`.

    Args:
        name: The tool's, for the log.
        body: Executes; tells failures rather than raising them.
        running: Where it stands for as long as its task runs.
        ended: Called when whoever comes later must not wait for it any more; maybe twice. None when nobody could.
        loop: The running one.
        is_last: Whether it repeats a failed one, so that its end is the answer of all.

    Attributes:
        is_late: Whether its time is over.
        is_disowned: Whether nobody wants it any more.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        running: set[Flight],
        ended: Ended | None,
        loop: asyncio.AbstractEventLoop,
        *,
        is_last: bool,
    ) -> None:
        self.is_last = is_last
        self.is_late = False
        self.is_disowned = False
        self._name = name
        self._running = running
        self._ended = ended
        self._timeout_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        # A dict for its order: who waits longest is woken first, in every run.
        self._waiters: dict[asyncio.Future[Execution], None] = {}
        self._landed = False
        self._coroutine = body(self)
        self._loop = loop
        self.task = self._loop.create_task(self._coroutine)
        self.task.add_done_callback(self._task_done)
        running.add(self)

    def arm(self, timeout_s: float) -> None:
        """Let its time begin."""
        self._timeout_s = timeout_s
        self._timer = self._loop.call_later(timeout_s, self._expire)

    async def wait(self) -> Execution:
        """How it ended. When the last of those who wait is cancelled, it is too."""
        waiter: asyncio.Future[Execution] = self._loop.create_future()
        self._waiters[waiter] = None
        try:
            return await waiter
        finally:
            del self._waiters[waiter]
            if not self._waiters and not self._landed:
                self.cancel()

    def cancel(self) -> None:
        """End it, and take it out of sight at once: whoever comes now must not wait for what is being cancelled."""
        self.is_disowned = True
        self.task.cancel()
        self._out_of_sight()

    def close(self) -> None:
        """End a coroutine that went on after it was cancelled, where it waits."""
        if self.task.done():
            return
        _LOGGER.warning("the tool %s goes on although it was cancelled; it is closed", self._name)
        # Ends our own frames whatever the tool's do, so that the task, woken by the cancel, finds nothing left to run.
        self._coroutine.close()
        self.task.cancel()

    def _expire(self) -> None:
        self.is_late = True
        self.task.cancel()
        self._timer = self._loop.call_later(GRACE_S, self._give_up)

    def _give_up(self) -> None:
        self.close()
        problem = f"took longer than {self._timeout_s:g} s, and did not stop when it was cancelled"
        self._land(Execution(f"{self._name} {problem}", ok=False, is_late=True))

    def _out_of_sight(self) -> None:
        if self._ended is not None:
            self._ended(self)

    def _task_done(self, task: asyncio.Task[Execution]) -> None:
        self._running.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or (error and self.is_disowned):
            execution = Execution(f"{self._name} was cancelled", ok=False)
        elif error:
            execution = Execution(f"{self._name} failed: {type(error).__name__}", ok=False)
        else:
            execution = task.result()
        self._land(execution)

    def _land(self, execution: Execution) -> None:
        if self._landed:
            return
        self._landed = True
        self._out_of_sight()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(execution)


class Flights:
    """Executions under way, some of them by the identity of the call.

    An execution belongs to all who wait for it: it goes on when the one who asked first is cancelled, and is
    cancelled with the last of them. Its failure is told to the one who asked first; the others execute once more,
    together, and how that ends is the answer of them all, so that a tool that always fails costs each of them two
    executions' time at most.
    """

    def __init__(self) -> None:
        self._shared: dict[Hashable, Flight] = {}
        self._running: set[Flight] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def start(self, name: str, body: Body) -> Flight:
        """Execute for whoever waits for the flight.

        Args:
            name: The tool's, for the log.
            body: Executes; tells failures rather than raising them.
        """
        return Flight(name, body, self._running, None, self._the_loop(), is_last=False)

    async def join(self, key: Hashable, name: str, body: Body) -> tuple[Execution, bool]:
        """Execute, or wait for an equal call that executes already.

        Args:
            key: Identity of the call.
            name: The tool's.
            body: Executes it; tells failures rather than raising them.

        Returns:
            How it ended, and whether it was executed for this caller.
        """
        follows_failure = False
        while True:
            flight = self._shared.get(key)
            own = flight is None
            if flight is None:
                ended = partial(self._remove, key)
                flight = Flight(name, body, self._running, ended, self._the_loop(), is_last=follows_failure)
                self._shared[key] = flight
            execution = await flight.wait()
            if execution.ok or execution.is_final or own or flight.is_last or self._closed:
                return execution, own
            follows_failure = True

    async def aclose(self) -> None:
        """Cancel what is under way, and wait until it has ended, or been closed: `GRACE_S` twice at most."""
        self._closed = True
        for flight in list(self._running):
            flight.cancel()
        if await self._pending():
            for flight in list(self._running):
                flight.close()
            await self._pending()

    def _the_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:  # asking for it is a system call, so not for every call
            self._loop = asyncio.get_running_loop()
        return self._loop

    async def _pending(self) -> bool:
        tasks = [flight.task for flight in self._running]
        return bool(tasks and (await asyncio.wait(tasks, timeout=GRACE_S))[1])

    def _remove(self, key: Hashable, flight: Flight) -> None:
        if self._shared.get(key) is flight:
            del self._shared[key]
