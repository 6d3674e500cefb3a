"""Opens MCP servers and lends their tools for as long as a block lasts."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from aurora_swarm.errors import UsageError
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.tools.mcp.server import McpServer

ToolT = TypeVar("ToolT")


@asynccontextmanager
async def open_mcp(server: McpServer | str) -> AsyncGenerator[list[AnyTool], None]:
    """Connect to an MCP server for as long as the block lasts.

    A server that dies is started or connected to again with the next call; a call that was under way is repeated once
    if its tool may be repeated, and fails otherwise. Its list of tools is read once: what a run may use does not
    change while it runs. When the block ends, a program that was started is ended, with all that it started.

    Args:
        server: A server, its address, or a command line.

    Yields:
        Its tools, in its order; each call of one goes to the server.

    Raises:
        UsageError: The package ``mcp`` is missing, or the server cannot be reached or started.
        ToolDefinitionError: A tool cannot be offered, or one that is asked for does not exist.
    """
    if importlib.util.find_spec("mcp") is None:
        raise UsageError("MCP servers need the package mcp", remedy="pip install 'aurora-swarm[mcp]'")
    from aurora_swarm.tools.mcp.connection import Connection  # noqa: PLC0415 - an extra, and slow to load
    from aurora_swarm.tools.mcp.tool import tools_of  # noqa: PLC0415

    chosen = McpServer.at(server) if isinstance(server, str) else server
    async with Connection(chosen) as connection:
        tools: list[AnyTool] = [*tools_of(await connection.listed(), chosen, connection.call)]
        yield tools


@asynccontextmanager
async def opened_tools(tools: Iterable[ToolT | McpServer]) -> AsyncGenerator[list[ToolT | AnyTool], None]:
    """Tools with every `McpServer` among them replaced by the tools that it has, while the block lasts.

    Args:
        tools: Whatever a batch takes as tools.

    Yields:
        What is not a server as it is; everything in its order.

    Raises:
        UsageError: As from `open_mcp`; servers that were opened before are closed.
    """
    async with AsyncExitStack() as stack:
        opened: list[ToolT | AnyTool] = []
        for tool in tools:
            if isinstance(tool, McpServer):
                opened += await stack.enter_async_context(open_mcp(tool))
            else:
                opened.append(tool)
        yield opened
