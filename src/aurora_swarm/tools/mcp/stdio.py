"""A program as an MCP server, over its standard input and output.

The one of the `mcp` package joins what it has read anew with each piece, which takes minutes of the event loop for a
message of 100 MB, and takes messages of any length. This one takes messages of a bounded length and tells when the
program ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from types import TracebackType

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from aurora_swarm.tools.mcp.server import McpServer

_STEP_S = 0.5
"""Seconds that a program has to end after each hint: its input closed, SIGTERM, SIGKILL."""
_KEPT_BYTES = 4096
_PIECE = 65536

Incoming = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Incoming], MemoryObjectSendStream[SessionMessage]]


class ProgramTransport:
    """Runs a server's program for as long as its block lasts; yields what `mcp.Client` reads from and writes to.

    Args:
        server: Its `command` is started, in a process group of its own.
        over: Set when nothing more will come, for whatever reason.
    """

    def __init__(self, server: McpServer, over: asyncio.Event) -> None:
        self._server = server
        self._over = over
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._said = b""
        self.reason = ""

    @property
    def last_words(self) -> str:
        """The last line that the program wrote to its standard error; empty when it wrote none."""
        lines = self._said.decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:300] if lines else ""

    async def __aenter__(self) -> Streams:
        server = self._server
        self._process = process = await asyncio.create_subprocess_exec(
            *server.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=server.max_bytes,
            env=get_default_environment() | dict(server.env),
            cwd=server.cwd or None,
            start_new_session=True,
        )
        to_session, incoming = anyio.create_memory_object_stream[Incoming](0)
        outgoing, from_session = anyio.create_memory_object_stream[SessionMessage](0)
        self._tasks = [
            asyncio.create_task(self._read(process, to_session)),
            asyncio.create_task(self._write(process, from_session)),
            asyncio.create_task(self._listen(process)),
        ]
        return incoming, outgoing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        assert process is not None
        try:
            await _ended(process)
        finally:
            # Also when it was cancelled, and for what the program left behind in its group.
            _signal(process, signal.SIGKILL)
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def _read(self, process: asyncio.subprocess.Process, into: MemoryObjectSendStream[Incoming]) -> None:
        assert process.stdout is not None
        try:
            async with into:
                await self._pass_on(process.stdout, into)
        except (anyio.BrokenResourceError, ConnectionError):
            pass
        # A program that waits for somebody to read would not see that it is to end.
        while await process.stdout.read(_PIECE):
            pass

    async def _pass_on(self, stdout: asyncio.StreamReader, into: MemoryObjectSendStream[Incoming]) -> None:
        try:
            while line := await stdout.readline():
                await into.send(_parsed(line))
        except ValueError:
            self.reason = f"it sent a message of more than {self._server.max_bytes} bytes"
        finally:
            self._over.set()

    async def _write(self, process: asyncio.subprocess.Process, out: MemoryObjectReceiveStream[SessionMessage]) -> None:
        assert process.stdin is not None
        try:
            async with out:
                async for each in out:
                    process.stdin.write(each.message.model_dump_json(by_alias=True, exclude_unset=True).encode())
                    process.stdin.write(b"\n")
                    await process.stdin.drain()
        except ConnectionError:
            pass
        finally:
            process.stdin.close()
            self._over.set()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while piece := await process.stderr.read(_KEPT_BYTES):
            self._said = (self._said + piece)[-_KEPT_BYTES:]


def _parsed(line: bytes) -> Incoming:
    """A message; what is none goes to the session, which knows what to make of it."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End the program, with more force at each step."""
    if process.stdin is not None:
        process.stdin.close()
    for force in (signal.SIGTERM, signal.SIGKILL):
        try:
            await asyncio.wait_for(process.wait(), _STEP_S)
        except TimeoutError:
            _signal(process, force)
        else:
            return
    # One that left the group and kept the pipes is not waited for.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _STEP_S)


def _signal(process: asyncio.subprocess.Process, what: signal.Signals) -> None:
    """To its whole group, which outlives it when it has left children behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, what)
