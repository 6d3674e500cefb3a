"""One copy of a worker as a process of this machine, and the two pipes to it.

The pipes are ours and not those of asyncio's subprocesses: those are waited for with the process, and something that
the copy started and that outlives it can hold them open for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from io import FileIO
from typing import Self

_LINE_BYTES = 65_536
_KILL_S = 5.0


class Child:
    """A process in a group of its own. Made by `begin`; must be closed.

    Args:
        process: It.
        out: What it writes to standard output and error.
        pipes: Ends of the pipes; once the one to it is closed, it kills itself and all that it started.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, out: asyncio.StreamReader, pipes: tuple[asyncio.BaseTransport, ...]
    ) -> None:
        self._process = process
        self._out = out
        self._pipes = pipes

    @classmethod
    async def begin(cls, function: str, argument: str) -> Self:
        """Begin a process that calls a worker; where that is cancelled, it is gone when this returns.

        Raises:
            OSError: No process, or no pipe, is to be had.
        """
        beginning = asyncio.ensure_future(cls._begin(function, argument))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                child = await beginning
                child.close()
                await child.wait()
            raise

    @classmethod
    async def _begin(cls, function: str, argument: str) -> Self:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            (their_in, our_out), (our_in, their_out) = _pipe(), _pipe()
            for stack, file in ((theirs, their_in), (theirs, their_out), (ours, our_in), (ours, our_out)):
                stack.callback(file.close)
            command = sys.executable, "-m", "aurora_swarm.engines.worker", function
            process = await asyncio.create_subprocess_exec(
                *command, stdin=their_in, stdout=their_out, stderr=their_out, start_new_session=True
            )
            ours.pop_all()
        out = asyncio.StreamReader(limit=_LINE_BYTES)
        reading, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(out), our_in)
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, our_out)
        writing.write(json.dumps(argument).encode() + b"\n")
        return cls(process, out, (reading, writing))

    async def line(self) -> str | None:
        """The next line that it writes; None at the end, when nobody is left who could write."""
        try:
            line = await self._out.readline()
        except ValueError:
            return "(a line of more than 64 KiB was left out)"
        return line.decode(errors="replace").rstrip("\n") if line else None

    async def wait(self) -> int:
        """Its exit code; that of a signal is negative."""
        return await self._process.wait()

    async def end(self, grace_s: float) -> None:
        """End it if it still runs, with more force after a while.

        Args:
            grace_s: Seconds between SIGTERM and SIGKILL.
        """
        for force, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILL_S)):
            if self._process.returncode is not None:
                return
            self.signal(force)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), wait_s)

    def signal(self, what: signal.Signals) -> None:
        """To its whole group, which outlives it when it has left children behind."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, what)

    def close(self) -> None:
        """Kill what is left of its group, and close the pipes."""
        self.signal(signal.SIGKILL)
        for pipe in self._pipes:
            pipe.close()


def _pipe() -> tuple[FileIO, FileIO]:
    reads, writes = os.pipe()
    return FileIO(reads, "r"), FileIO(writes, "w")
