"""Running a tool's function once, within its rate and its time, whatever it raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from aurora_swarm.errors import AuroraSwarmError
from aurora_swarm.tools.bucket import TokenBucket
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.tools.flights import Execution, Flight
from aurora_swarm.tools.refusal import RefusedError
from aurora_swarm.tools.texts import MAX_FAILURE_CHARS, clean
from aurora_swarm.tools.threads import GivenUpError, ToolThreads

Finish = Callable[[Any], Execution]
"""Makes an answer of what a function returned; called where the function ran."""


class Runner:
    """Runs functions of tools: coroutines on the loop, plain functions on threads.

    Args:
        threads: For plain functions.
    """

    def __init__(self, threads: ToolThreads) -> None:
        self._threads = threads
        self._buckets: dict[Hashable, TokenBucket] = {}

    async def run(
        self, tool: AnyTool, values: Mapping[str, Any], flight: Flight, finish: Finish, begun: Callable[[], None]
    ) -> Execution:
        """Run a function once.

        Args:
            tool: Whose function.
            values: What a model asks it for, as validated.
            flight: The execution that this is part of; its time begins when the tool's rate allows the call.
            finish: Makes an answer of what it returned.
            begun: Called when it begins.

        Returns:
            The answer, or its failure in words for the model.

        Raises:
            asyncio.CancelledError: The flight was cancelled because nobody wants it any more.
        """
        try:
            if tool.rate_limit is not None:
                await self._wait_for_rate(tool, tool.rate_limit)
            begun()
            arguments = tool.call_arguments(values)
            if not tool.is_async:
                return await self._threads.run(lambda: finish(tool.function(**arguments)), tool.timeout_s)
            flight.arm(tool.timeout_s)
            return finish(await tool.function(**arguments))
        except asyncio.CancelledError:
            if flight.is_disowned:
                raise
            late = flight.is_late
            why = f"took longer than {tool.timeout_s:g} s" if late else "failed: it cancelled itself"
            return _failure(tool, why, is_late=late)
        except GivenUpError as error:
            return _failure(tool, str(error), is_late=True)
        except (AuroraSwarmError, RefusedError) as error:
            return _failure(tool, f"failed: {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's tool may raise anything; the model is told
            return _failure(tool, f"failed: {type(error).__name__}: {error}")

    async def _wait_for_rate(self, tool: AnyTool, rate: float) -> None:
        now = asyncio.get_running_loop().time()
        bucket = self._buckets.setdefault(tool.identity(), TokenBucket(rate, now))
        await asyncio.sleep(bucket.take(now))


def _failure(tool: AnyTool, why: str, *, is_late: bool = False) -> Execution:
    return Execution(clean(f"{tool.name} {why}", MAX_FAILURE_CHARS), ok=False, is_late=is_late)
