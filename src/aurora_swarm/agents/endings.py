"""Awaiting what may not want to end: a cancelled coroutine has a while for its farewell, then it is closed."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Generator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

GRACE_S = 1.0
"""How long whatever was cancelled may take to end."""


@types.coroutine
def endable(
    awaitable: Awaitable[T], grace_s: float = GRACE_S, *, loop: asyncio.AbstractEventLoop | None = None
) -> Generator[Any, Any, T]:
    """Await something so that cancelling ends the wait, also where it swallows its cancellation.

    Costs no task. What is cancelled is told so and may clean up, awaiting what it needs; after `grace_s` it is closed
    where it stands, as generators are, and the cancellation goes on. What it returns after a cancellation is dropped.
    Time limits of its own are not taken for a cancellation: they take theirs back (`asyncio.Task.uncancel`).

    Args:
        awaitable: A coroutine, as a rule.
        grace_s: Seconds for its cleaning up.
        loop: The running one, for who knows it: asking for it is a system call.

    Returns:
        Its result; its exceptions pass.
    """
    task = asyncio.current_task(loop)
    assert task is not None
    farewell = _Farewell(task, grace_s)
    steps = awaitable.__await__()
    try:
        waits = next(steps)
        while True:
            try:
                heard = yield waits
            except asyncio.CancelledError as cancelled:
                if farewell.is_over:
                    break
                farewell.cancelled = cancelled
                waits = steps.throw(cancelled)
            except BaseException as error:  # noqa: BLE001 - what is thrown in is meant for what is awaited
                waits = steps.throw(error)
            else:
                waits = steps.send(heard)
            if farewell.cancelled is not None:
                farewell.look_again()
    except StopIteration as end:
        if farewell.cancelled is None or not farewell.is_due:
            result: T = end.value
            return result
    finally:
        farewell.forget()
    with suppress(RuntimeError):  # it goes on even now: nothing more can be done for it
        steps.close()
    assert farewell.cancelled is not None
    raise farewell.cancelled


class _Farewell:
    """Knows whether a task was cancelled from outside, and for how long it has gone on since.

    Args:
        task: The task.
        grace_s: How long it may.

    Attributes:
        cancelled: The latest cancellation, whoever's it was.
        is_over: Whether time is up; the task is woken for that by a cancellation of ours.
    """

    def __init__(self, task: asyncio.Task[Any], grace_s: float) -> None:
        self.cancelled: asyncio.CancelledError | None = None
        self.is_over = False
        self._task = task
        self._before = task.cancelling()
        self._grace_s = grace_s
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_due(self) -> bool:
        """Whether somebody wants the task to end, and has not taken that back."""
        return self._task.cancelling() > self._before

    def look_again(self) -> None:
        """The task goes on: bound that while it is due to end."""
        if not self.is_due:
            self.forget()
            self.cancelled = None
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._end)

    def forget(self) -> None:
        """Bound nothing any more, and take back our own cancellation."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_over:
            self._task.uncancel()

    def _end(self) -> None:
        self.is_over = self._task.cancel()
