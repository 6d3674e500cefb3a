"""A connection to an MCP server at an address, by streamable HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.streamable_http import streamable_http_client

from aurora_swarm.tools.mcp.server import McpServer

_CONNECT_S = 10.0


class _TooLongError(httpx2.StreamError):
    """An answer is longer than it may be; of the library's own kind, so that only its request fails."""


class _Bounded(httpx2.AsyncByteStream):
    """The body of an answer, up to a number of bytes."""

    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for piece in self._stream:
            seen += len(piece)
            if seen > self._max_bytes:
                raise _TooLongError(f"the answer has more than {self._max_bytes} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def http_transport(server: McpServer) -> AsyncGenerator[Any, None]:
    """What `mcp.Client` reads from and writes to, for as long as the block lasts.

    Args:
        server: Its `url` is spoken to with its `headers`.
    """

    async def bound(response: httpx2.Response) -> None:
        # A stream of events goes on for long; each of its events is bounded by the transport.
        is_json = response.headers.get("content-type", "").lower().startswith("application/json")
        if is_json and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Bounded(response.stream, server.max_bytes)

    async with (
        httpx2.AsyncClient(
            headers=dict(server.headers),
            # Each call has a time of its own; one that took long here would end the connection for all.
            timeout=httpx2.Timeout(None, connect=_CONNECT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
            event_hooks={"response": [bound]},
        ) as http,
        streamable_http_client(server.url, http_client=http, max_sse_event_size=server.max_bytes) as streams,
    ):
        yield streams
