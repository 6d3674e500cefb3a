"""Workers in processes of their own, on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable

from aurora_swarm.engines.child import Child
from aurora_swarm.engines.ending import end
from aurora_swarm.engines.restarts import pause_s
from aurora_swarm.engines.worker import OF_NO_USE
from aurora_swarm.errors import EngineError

GRACE_S = 5.0

_READ_S = 1.0


class ProcessEngine:
    """Runs copies as processes, each in a group of its own; keeps the contract of `ports.engine.Engine`.

    The argument goes through a pipe, never onto a command line. What a copy writes to standard output and error is
    passed on line by line. A copy that dies is begun again. Ending it is SIGTERM to its group, then SIGKILL; when this
    process dies, however it dies, its copies and what they started kill themselves within about a second.

    Args:
        say: Told every line that a copy writes, with the copy's number before it, and what died.
        grace_s: Seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, say: Callable[[str], None], grace_s: float = GRACE_S) -> None:
        self._say = say
        self._grace_s = grace_s
        self._kept: set[asyncio.Task[None]] = set()
        self._living = 0

    async def keep(self, function: str, argument: str, copies: int) -> None:
        """Run copies of a worker until each has returned; cancelling ends all copies, and waits until they are gone.

        Raises:
            EngineError: The function cannot be imported there, what it was given is wrong, or no process can be begun.
        """
        tasks = [asyncio.create_task(self._keep_one(n, function, argument)) for n in range(copies)]
        self._kept.update(tasks)
        try:
            await asyncio.gather(*tasks)
        finally:
            self._kept.difference_update(tasks)
            await end(tasks)

    async def aclose(self) -> None:
        """End what still runs, and wait until it is gone. May be called twice."""
        await end(self._kept)

    async def _keep_one(self, number: int, function: str, argument: str) -> None:
        loop = asyncio.get_running_loop()
        wait_s = 0.0
        while True:
            began = loop.time()
            code, last = await self._run(number, function, argument)
            if code == 0:
                return
            if code == OF_NO_USE:
                raise EngineError(f"no worker can be begun: {last}", remedy="put that right, then run again")
            wait_s = pause_s(loop.time() - began, wait_s)
            self._say(f"worker {number} {_end_in_words(code)}; it is begun again in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)

    async def _run(self, number: int, function: str, argument: str) -> tuple[int, str]:
        """One life of a copy; returns its exit code and the last line that it wrote."""
        child = await self._begun(function, argument)
        if child is None:
            return -1, ""
        self._living += 1
        reading = asyncio.create_task(self._read(number, child))
        try:
            return await child.wait(), await _soon(reading)
        finally:
            try:
                await child.end(self._grace_s)
                await _soon(reading)
            finally:
                child.close()
                reading.cancel()
                self._living -= 1
                await child.wait()

    async def _begun(self, function: str, argument: str) -> Child | None:
        """A process; None where there is none to be had now, and others live that may end."""
        try:
            return await Child.begin(function, argument)
        except OSError as error:
            problem = f"no process can be begun: {error.strerror or error}"
            if not self._living:
                remedy = "free memory or processes on this machine, or ask for fewer copies"
                raise EngineError(problem, remedy=remedy) from error
            self._say(problem)
            return None

    async def _read(self, number: int, child: Child) -> str:
        """Say what a copy writes; returns its last line."""
        last = ""
        while (line := await child.line()) is not None:
            last = line
            self._say(f"[worker {number}] {line}")
        return last


async def _soon(reading: asyncio.Task[str]) -> str:
    """The last line; what outlives a copy and holds its pipe open is not waited for."""
    await asyncio.wait({reading}, timeout=_READ_S)
    reading.cancel()
    return "" if not reading.done() or reading.cancelled() else reading.result()


def _end_in_words(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
