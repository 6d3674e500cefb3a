"""A function of the user's that says how good a text is: each text judged once, whatever the function does."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from aurora_swarm.errors import AuroraSwarmError, CallbackError
from aurora_swarm.pools.flow import together
from aurora_swarm.tools.threads import GivenUpError, ToolThreads, within

Fitness: TypeAlias = Callable[[str], float] | Callable[[str], Awaitable[float]]
"""How good a text is; more is better. A plain function runs on a thread, an ``async def`` one on the loop."""


class Judge:
    """Judges texts with a fitness function, and remembers what it said.

    Args:
        fitness: The function.
        timeout_s: Seconds for one text.
        width: Plain functions under way at a time.
    """

    def __init__(self, fitness: Fitness, *, timeout_s: float, width: int) -> None:
        self._fitness = fitness
        self._timeout_s = timeout_s
        self._threads = ToolThreads(width)
        self._said: dict[str, float] = {}

    async def judge(self, texts: Sequence[str]) -> list[float | AuroraSwarmError]:
        """Judge texts side by side, each that was not judged before.

        Returns:
            For each its fitness, or why it has none: the function raised, took too long, or gave no finite number. What
            failed is tried again when it comes again.
        """
        fresh = [text for text in dict.fromkeys(texts) if text not in self._said]
        judged = dict(zip(fresh, await together(self._one(text) for text in fresh), strict=True))
        self._said |= {text: value for text, value in judged.items() if isinstance(value, float)}
        return [judged[text] if text in judged else self._said[text] for text in texts]

    def close(self) -> None:
        """Let idle threads end."""
        self._threads.close()

    async def _one(self, text: str) -> float | AuroraSwarmError:
        try:
            value = float(await self._called(text))
        except GivenUpError as error:
            return CallbackError(f"the fitness function {error}", remedy="allow more with fitness_timeout_s")
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything; only this text has no fitness
            return CallbackError(f"the fitness function raised {type(error).__name__}: {error}")
        if not math.isfinite(value):
            return CallbackError(f"the fitness function gave {value}", remedy="let it return a finite number")
        return value

    async def _called(self, text: str) -> float:
        if inspect.iscoroutinefunction(self._fitness) or inspect.iscoroutinefunction(
            getattr(self._fitness, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        ):
            async with within(self._timeout_s):
                coroutine: Awaitable[float] = self._fitness(text)  # type: ignore[assignment] # it is async
                return await coroutine
        value = await self._threads.run(lambda: self._fitness(text), self._timeout_s)
        if inspect.isawaitable(value):
            async with within(self._timeout_s):
                return await value
        return value
