"""A real MCP server with tools that go well, fail, hang and die. Run: ``python mcp_server_example.py [--port N]``.

Without a port it speaks over standard input and output; with one, by streamable HTTP on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import Field

server = MCPServer("example", log_level="ERROR")
READS = ToolAnnotations(read_only_hint=True)
calls = {"add": 0}


@server.tool(annotations=READS)
async def add(a: int, b: Annotated[int, Field(le=1000)]) -> int:
    """Add two numbers."""
    calls["add"] += 1
    await asyncio.sleep(0.01)
    return a + b


@server.tool(annotations=READS)
def count() -> str:
    """Say how often add was called."""
    return str(calls["add"])


@server.tool(annotations=READS)
def pid() -> str:
    """Say which process this is."""
    return str(os.getpid())


@server.tool(annotations=READS)
def environment() -> str:
    """Say what the environment holds."""
    return "\n".join(f"{name}={value}" for name, value in os.environ.items())


@server.tool(annotations=READS)
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


@server.tool(annotations=READS)
async def hang(told: str) -> str:
    """Never answer; say in a file that the call began, and that it was cancelled."""
    try:
        Path(told).write_text("began")
        await asyncio.Event().wait()
    except BaseException:
        Path(told).write_text("cancelled")
        raise
    return "never"


@server.tool(annotations=READS)
def big(size: int) -> str:
    """Answer with so many characters."""
    return "x" * size


@server.tool(annotations=READS)
def picture() -> CallToolResult:
    """Answer with a picture and a word."""
    return CallToolResult(
        content=[ImageContent(data="AAAA", mime_type="image/png"), TextContent(text="a dot")],
    )


@server.tool(annotations=READS)
def die_once(mark: str) -> str:
    """Die with the first call; answer the next."""
    return _die(mark)


@server.tool()
def die_for(mark: str) -> str:
    """The same, with an effect."""
    return _die(mark)


def _die(mark: str) -> str:
    if Path(mark).exists():
        return "alive"
    Path(mark).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.port is None:
        server.run("stdio")
    else:
        server.run("streamable-http", port=options.port, json_response=options.json)
