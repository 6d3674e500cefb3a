"""Ctrl-C and SIGTERM: the first cancels everything in order, the second ends the process at once."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TypeVar

from aurora_swarm.cli.exits import Exit

T = TypeVar("T")

GRACE_S = 1.7
"""Time for an orderly end. Whoever has pressed Ctrl-C is not kept longer, whatever hangs."""


def run_interruptibly(main: Coroutine[Any, Any, T], last_words: Callable[[], None] | None = None) -> T:
    """Run a coroutine to its end.

    Args:
        main: What to run.
        last_words: Called before the process ends because the orderly end took too long. Not after a second signal.

    Returns:
        Its result.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; `main` was cancelled and has ended. A second signal, or an end
            that takes longer than `GRACE_S`, ends the process at once with exit code 130.
    """
    from aurora_swarm.batch.loop import run_on_loop  # noqa: PLC0415 - start-up is light

    stop = _Stop(last_words or _nothing)
    try:
        with _handling(stop.on_signal, signal.SIGINT, signal.SIGTERM):
            return run_on_loop(stop.guard(main))
    except asyncio.CancelledError:
        if stop.asked:
            raise KeyboardInterrupt from None
        raise
    finally:
        stop.relax()


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt as Ctrl-C does, also where no event loop runs."""
    with _handling(_interrupt, signal.SIGTERM):
        yield


class _Stop:
    """Turns signals into the cancellation of one task.

    The handlers are Python's rather than the loop's: they run between two instructions, so a loop that is busy
    cannot keep a second Ctrl-C waiting.
    """

    def __init__(self, last_words: Callable[[], None]) -> None:
        self.asked = False
        self._last_words = last_words
        self._cancel: Callable[[], object] | None = None

    async def guard(self, main: Coroutine[Any, Any, T]) -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        try:
            result = await main
        finally:
            self._cancel = _nothing
        if self.asked:  # it came when there was nothing left to cancel; who pressed Ctrl-C is to hear that it counted
            raise asyncio.CancelledError
        return result

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            _end_at_once(0, None)
        self.asked = True
        # Ten thousand cancelled agents are a lot to look through, again and again: it would take most of the time.
        gc.disable()
        signal.signal(signal.SIGALRM, self._out_of_time)
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        if self._cancel is None:
            raise KeyboardInterrupt
        self._cancel()

    def _out_of_time(self, number: int, frame: FrameType | None) -> NoReturn:
        try:
            self._last_words()
        finally:
            _end_at_once(number, frame)

    def relax(self) -> None:
        if self.asked:
            signal.setitimer(signal.ITIMER_REAL, 0)
            gc.enable()


def _nothing() -> None:
    """There is nothing left to cancel."""


def end_interrupted() -> NoReturn:
    """End the process now that all is said and done, with the exit code of an interrupted one.

    Nothing of ours is left to clean up, and the interpreter's own way out takes a second more after a large run.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever read it is gone
            stream.flush()
    os._exit(Exit.INTERRUPTED)


def _end_at_once(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(Exit.INTERRUPTED)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> Iterator[None]:
    """Handle signals, where that is possible: in the main thread. What handled them before does so again afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
