"""The connection to one MCP server: opened once for all agents, and anew when it was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from mcp import Client, MCPError
from mcp.types import CONNECTION_CLOSED, INVALID_REQUEST, CallToolResult, Tool
from pydantic import ValidationError

from aurora_swarm.errors import ToolFailedError, UsageError
from aurora_swarm.tools.mcp.http import http_transport
from aurora_swarm.tools.mcp.server import McpServer
from aurora_swarm.tools.mcp.stdio import ProgramTransport

_END_S = 2.0
_SLACK_S = 1.0
_MAX_PAGES = 100


class LostError(Exception):
    """The connection ended before the answer came; the text says how."""


class _Session:
    """One life of the connection.

    The library wants its blocks entered and left by one task, and calls come from many; so a task of ours holds them.
    """

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self._over = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._program = ProgramTransport(server, self._over) if server.command else None
        self._failure = ""
        self._holder = asyncio.create_task(self._hold())

    @property
    def alive(self) -> bool:
        return not self._over.is_set() and not self._holder.done()

    @property
    def why(self) -> str:
        """How it ended, as far as that is known."""
        program = self._program
        known = (program and program.reason) or self._failure or "the server ended the connection"
        said = program.last_words if program else ""
        return f"{known} (it said: {said})" if said else known

    async def client(self) -> Client:
        """Wait until it is open.

        Raises:
            LostError: It cannot be opened.
        """
        try:
            async with asyncio.timeout(self._server.start_timeout_s):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            self._failure = f"it did not answer within {self._server.start_timeout_s:g} s"
            raise LostError(self.why) from None

    async def aclose(self) -> None:
        """End it, and wait until nothing of it is left."""
        self._over.set()
        if not self._ready.done():
            self._holder.cancel()
        try:
            await asyncio.wait({self._holder}, timeout=_END_S)
        finally:
            self._holder.cancel()
            await asyncio.wait({self._holder})

    async def _hold(self) -> None:
        try:
            async with Client(self._program or http_transport(self._server)) as client:
                self._ready.set_result(client)
                await self._over.wait()
        except Exception as error:  # noqa: BLE001 - libraries raise much, all of it means that there is no connection
            if not self._over.is_set():
                self._failure = _sentence(error)
        finally:
            self._over.set()
            if not self._ready.done():
                self._ready.set_exception(LostError(self.why))
                self._ready.exception()  # seen, should nobody wait for it any more


class Connection:
    """Calls tools of one server for many agents. Belongs to one event loop; use it with ``async with``.

    Args:
        server: Which server.

    Raises:
        UsageError: On entering: it cannot be reached or started.
    """

    def __init__(self, server: McpServer) -> None:
        self._server = server
        self._session: _Session | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        try:
            await self._client()
        except LostError as error:
            await self._close()
            remedy = "see whether it runs by itself: " + (self._server.url or " ".join(self._server.command))
            raise UsageError(f"the MCP server {self._server.place} does not work: {error}", remedy=remedy) from None
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def listed(self) -> list[Tool]:
        """The server's tools, all pages of them.

        Raises:
            UsageError: It does not say.
        """
        tools: list[Tool] = []
        cursor: str | None = None
        try:
            async with asyncio.timeout(self._server.start_timeout_s):
                _, client = await self._client()
                for _ in range(_MAX_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    tools += page.tools
                    cursor = page.next_cursor
                    if not cursor:
                        return tools
            why = f"its list of tools has more than {_MAX_PAGES} pages"
        except (LostError, MCPError, ValidationError) as error:
            why = _sentence(error)
        except TimeoutError:
            why = f"it did not list them within {self._server.start_timeout_s:g} s"
        raise UsageError(f"the MCP server {self._server.place} lists no tools: {why}")

    async def call(self, name: str, arguments: Mapping[str, Any], *, repeatable: bool) -> CallToolResult:
        """Call a tool; cancelling tells the server that nobody waits any more.

        Args:
            name: The tool, by the server's name.
            arguments: What it is called with.
            repeatable: Whether the call may be made once more when the connection is lost before its answer.

        Raises:
            ToolFailedError: The server refused, took too long, or could not be reached.
        """
        try:
            return await self._called(name, arguments)
        except LostError as error:
            if not repeatable:
                problem = f"the connection to its server was lost, and whether it was done is not known: {error}"
                raise ToolFailedError(problem) from None
        try:
            return await self._called(name, arguments)
        except LostError as error:
            raise ToolFailedError(f"the connection to its server was lost, twice: {error}") from None

    async def _called(self, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        try:
            session, client = await self._client()
        except LostError as error:
            raise ToolFailedError(f"its server cannot be reached: {error}") from None
        try:
            # Who calls bounds the time; this is for those who call the tool without a pool.
            longest = self._server.timeout_s + _SLACK_S
            return await client.call_tool(name, dict(arguments), read_timeout_seconds=longest)
        except MCPError as error:
            if session.alive and not _is_end(error):
                raise ToolFailedError(f"the server refused: {error}") from None
        except RuntimeError as error:
            # An answer that does not keep to the tool's own schema, or a client whose holder has gone.
            if session.alive:
                raise ToolFailedError(str(error)) from None
        except ValidationError as error:
            raise ToolFailedError(f"the server's answer is none: {_sentence(error)}") from None
        await session.aclose()
        raise LostError(session.why)

    async def _client(self) -> tuple[_Session, Client]:
        """The open session; one caller opens it, the others wait for that."""
        async with self._opening:
            if self._session is None or not self._session.alive:
                await self._close()
                self._session = _Session(self._server)
            return self._session, await self._session.client()

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.aclose()


def _is_end(error: MCPError) -> bool:
    """Whether an error says that the session is gone, rather than what is wrong with a call."""
    # A server of before 2026 that was started anew answers 404 to sessions of its former life.
    return error.code == CONNECTION_CLOSED or (error.code == INVALID_REQUEST and error.message == "Session terminated")


def _sentence(error: BaseException) -> str:
    """The first cause within groups of errors, as one short line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
