"""A worker by its name: found, and called, wherever it was placed."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from aurora_swarm.errors import EngineError


def found(function: str) -> Callable[[str], Any]:
    """The function that a name leads to.

    Args:
        function: ``package.module:function``.

    Raises:
        EngineError: It cannot be imported here, or is no function.
    """
    module, _, name = function.partition(":")
    if not module or not name:
        raise EngineError(f"{function!r} names no worker", remedy="name it as package.module:function")
    try:
        worker = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a module raises while it is imported
        raise EngineError(
            f"the worker {function} cannot be imported: {type(error).__name__}: {error}",
            remedy="install its package where the worker is to run, or set PYTHONPATH there",
        ) from error
    if not callable(worker):
        raise EngineError(f"{function} is no function", remedy="name it as package.module:function")
    return worker  # type: ignore[no-any-return]


def called(function: str, argument: str) -> None:
    """Run a worker to its end; one that is a coroutine function gets an event loop of its own.

    Raises:
        EngineError: It cannot be imported here.
    """
    work = found(function)(argument)
    if inspect.iscoroutine(work):
        asyncio.run(work)


def coroutine_of(function: str, argument: str) -> Coroutine[Any, Any, object]:
    """A worker as a coroutine, for an event loop that runs already.

    Raises:
        EngineError: It cannot be imported here, or is no coroutine function.
    """
    worker = found(function)
    if not inspect.iscoroutinefunction(worker):
        raise EngineError(
            f"{function} is no coroutine function, so it cannot be ended while it runs in this process",
            remedy="write it as `async def`, or use the engine `processes`",
        )
    work: Coroutine[Any, Any, object] = worker(argument)
    return work
