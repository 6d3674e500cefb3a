"""Workers in this process, as tasks of its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aurora_swarm.engines.calling import coroutine_of
from aurora_swarm.engines.ending import end
from aurora_swarm.engines.restarts import pause_s
from aurora_swarm.errors import EngineError, UsageError


class LocalEngine:
    """Runs copies as tasks of the event loop that `keep` is called in; keeps the contract of `ports.engine.Engine`.

    A worker must be a coroutine function: a thread cannot be ended. A copy dies when it raises, and is begun again; a
    `UsageError` says that beginning it again is of no use.

    Args:
        say: Told in one line what died, and when it is begun again.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._kept: set[asyncio.Task[None]] = set()

    async def keep(self, function: str, argument: str, copies: int) -> None:
        """Run copies of a worker until each has returned; cancelling cancels them and waits for their end.

        Raises:
            EngineError: The function cannot be imported or is no coroutine function, or what it was given is wrong.
        """
        coroutine_of(function, argument).close()
        tasks = [asyncio.create_task(self._keep_one(n, function, argument)) for n in range(copies)]
        self._kept.update(tasks)
        try:
            await asyncio.gather(*tasks)
        finally:
            self._kept.difference_update(tasks)
            await end(tasks)

    async def aclose(self) -> None:
        """Cancel what still runs, and wait for its end. May be called twice."""
        await end(self._kept)

    async def _keep_one(self, number: int, function: str, argument: str) -> None:
        loop = asyncio.get_running_loop()
        wait_s = 0.0
        while True:
            began = loop.time()
            try:
                await coroutine_of(function, argument)
            except (EngineError, UsageError) as error:
                raise unusable(error) from error
            except Exception as error:  # noqa: BLE001 - the worker is anybody's; its death is told
                wait_s = pause_s(loop.time() - began, wait_s)
                why = f"{type(error).__name__}: {error}"
                self._say(f"worker {number} died of {why}; it is begun again in {wait_s:.1f} s")
                await asyncio.sleep(wait_s)
            else:
                return


def unusable(error: EngineError | UsageError) -> EngineError:
    """Why no copy can be begun."""
    if isinstance(error, EngineError):
        return error
    return EngineError(f"the worker refuses what it was given: {error}", remedy=error.remedy)
