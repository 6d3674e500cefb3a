"""Threads for tools that are plain functions: one that never returns keeps nothing else waiting, at no time."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_Job = Callable[[], None]

MAX_STUCK = 256
"""Threads that may be lost to calls that nobody waits for any more."""


class GivenUpError(Exception):
    """A tool did not come to an end; the text goes on from the tool's name (``took longer than 5 s``)."""


class DaemonThreads(Executor):
    """Starts a thread where none is idle. Unlike those of `concurrent.futures`, they do not delay the program's end.

    Attributes:
        busy: Functions under way.
    """

    def __init__(self) -> None:
        self.busy = 0
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._started = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function on a thread, at once."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - an executor hands over whatever was raised
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            self.busy += 1
            starts = self.busy > self._started
            self._started += starts
        self._jobs.put(job)
        if starts:
            threading.Thread(target=self._work, name="aurora-swarm-tool", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end, each after what it is doing; waits for none of them."""
        del wait, cancel_futures
        with self._lock:
            for _ in range(self._started):
                self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            finally:
                with self._lock:
                    self.busy -= 1


@asynccontextmanager
async def within(timeout_s: float) -> AsyncGenerator[None, None]:
    """Bound what is awaited inside.

    Raises:
        GivenUpError: It took longer. A `TimeoutError` from inside is not ours and passes unchanged.
    """
    clock = asyncio.timeout(timeout_s)
    try:
        async with clock:
            yield
    except TimeoutError as error:
        if not clock.expired():
            raise
        raise GivenUpError(f"took longer than {timeout_s:g} s") from error


class ToolThreads:
    """Runs plain functions on threads, a bounded number at a time.

    Args:
        limit: Functions under way at a time. One that was given up no longer counts, so that a function that never
            returns costs a thread and nothing else, up to `MAX_STUCK` of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threads = DaemonThreads()
        self._slots = asyncio.Semaphore(limit)

    async def run(self, function: Callable[[], T], timeout_s: float) -> T:
        """Run one function, with the context variables of the caller.

        Args:
            function: Runs to its end even when nobody waits for it any more.
            timeout_s: Time from its start.

        Raises:
            GivenUpError: It took longer; too many functions never returned; or it raised what would end a thread or
                a loop (``SystemExit`` and the like).
            Exception: Whatever else the function raised.
        """
        async with self._slots:
            if self._threads.busy >= self._limit + MAX_STUCK:
                raise GivenUpError("was not run: too many calls of tools never returned")
            context: Any = contextvars.copy_context()
            loop = asyncio.get_running_loop()
            async with within(timeout_s):
                result: T = await loop.run_in_executor(self._threads, context.run, _tamed, function)
                return result

    def close(self) -> None:
        """Let idle threads end; busy ones end after their function."""
        self._threads.shutdown()


def _tamed(function: Callable[[], T]) -> T:
    """Call a function so that it cannot raise what a future or a loop takes for something else."""
    try:
        return function()
    except Exception as error:
        if isinstance(error, StopIteration):
            raise GivenUpError("failed: StopIteration") from error
        raise
    except BaseException as error:
        raise GivenUpError(f"failed: {type(error).__name__}: {error}") from error
