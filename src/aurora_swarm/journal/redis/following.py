"""Reads a stream from a place on, waiting for what comes on a connection of its own."""

from __future__ import annotations

from typing import Any

from aurora_swarm.journal.redis.writer import Line, connected

_SLICE_S = 1.0


async def last_id(line: Line, stream: str) -> str:
    """Where a stream ends now."""
    rows: list[Any] = await line.ask("XREVRANGE", stream, "+", "-", "COUNT", 1)
    return rows[0][0].decode() if rows else "0-0"


async def read_now(line: Line, stream: str, cursor: str, limit: int) -> list[Any]:
    """Entries behind a place, as Redis gives them: id, and a list of names and values."""
    found: list[Any] | None = await line.ask("XREAD", "COUNT", limit, "STREAMS", stream, cursor)
    return list(found[0][1]) if found else []


async def read_on(line: Line, stream: str, cursor: str, *, limit: int, wait_s: float) -> list[Any]:
    """Like `read_now`, but waits a second at most where there is nothing.

    Raises:
        RedisError: The connection was lost.
        OSError: Likewise.
    """
    block_ms = max(1, round(1000 * min(wait_s, _SLICE_S)))
    connection = await connected(line.pool)
    try:
        await connection.send_command("XREAD", "COUNT", limit, "BLOCK", block_ms, "STREAMS", stream, cursor)
        found: list[Any] | None = await connection.read_response()
    finally:
        await line.pool.release(connection)
    return list(found[0][1]) if found else []
