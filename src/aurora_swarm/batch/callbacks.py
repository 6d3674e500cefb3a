"""The user's code that is told of results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec

from aurora_swarm.errors import CallbackError
from aurora_swarm.values.outcome import AgentResult

OnResult = Callable[[AgentResult[Any]], object]


async def told(on_result: OnResult, result: AgentResult[Any]) -> AgentResult[Any]:
    """Tell of a result.

    Args:
        on_result: May be a coroutine function.
        result: What it is told.

    Returns:
        The result; a failed one where the callback raised, so that only this job is affected.
    """
    try:
        answer = on_result(result)
        if inspect.isawaitable(answer):
            await answer
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything; only this job is affected
        failure = CallbackError(f"on_result raised {type(error).__name__}: {error}")
        return msgspec.structs.replace(result, ok=False, error=failure)
    return result
