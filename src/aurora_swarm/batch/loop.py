"""The event loop that programs run on: uvloop where it exists, asyncio's elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_on_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a new event loop.

    Args:
        main: What to run.

    Returns:
        Its result; exceptions pass through, KeyboardInterrupt after everything has been cancelled.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - loads asyncio's C parts; only when a loop is wanted
    except ImportError:
        return None
    return uvloop.new_event_loop
