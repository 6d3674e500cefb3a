"""Connects to a Redis by URL and asks what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.journal.redis.checks import faults
from aurora_swarm.journal.redis.scripts import Script
from aurora_swarm.journal.redis.writer import REQUEST_S, Line


def without_credentials(url: str) -> str:
    """The URL as it may be shown."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def split_option(url: str, name: str) -> tuple[str, str]:
    """Take one option of ours out of a URL; returns what is left, and its value or nothing."""
    place, _, query = url.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    value = next((value for key, value in options if key == name), "")
    rest = urlencode([(key, value) for key, value in options if key != name])
    return f"{place}?{rest}" if rest else place, value


def pool_of(url: str) -> ConnectionPool:
    """Connections to a Redis; none is made yet.

    Raises:
        UsageError: The URL is none.
    """
    remedy = "use redis://host:6379/0; encode special characters of a password as in %40"
    refusal = UsageError(f"{without_credentials(url)} is no address of a Redis", remedy=remedy)
    if without_credentials(url) == "unix://":
        raise refusal
    try:
        pool: Any = ConnectionPool.from_url(
            url,
            socket_timeout=REQUEST_S,
            socket_connect_timeout=REQUEST_S,
            retry=Retry(NoBackoff(), 0),  # there is one retry loop, ours
            health_check_interval=0,
            protocol=2,  # in which answers have the same shape in every version of the client
        )
        pool.make_connection()  # refuses options that there are none of; it connects to nothing yet
    except (TypeError, ValueError):
        # What redis-py says may hold a part of the password.
        raise refusal from None
    made: ConnectionPool = pool
    return made


async def connect(url: str, scripts: Sequence[Script], patience_s: float) -> tuple[Line, tuple[str, ...]]:
    """Connect to a Redis that can be relied on.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes it.
        scripts: What will be called.
        patience_s: Seconds for which it is waited for, now and later.

    Returns:
        The line to it, and sentences for the user.

    Raises:
        UsageError: The URL is none, the server refuses us, is too old, or may forget what it was told.
        StorageError: It could not be reached in time.
    """
    line = Line(pool_of(url), without_credentials(url), scripts, patience_s)
    try:
        info = _info(await line.ask("INFO"))
        return line, faults(line.place, info, await _config(line))
    except BaseException:
        await line.aclose()
        await line.pool.aclose()
        raise


async def _config(line: Line) -> dict[str, str]:
    """What is asked by name; empty where it may not be asked, as at some providers."""
    found: dict[str, str] = {}
    try:
        for name in ("appendfsync", "save"):
            found[name] = _text((await line.ask("CONFIG", "GET", name))[1])
    except (StorageError, UsageError, IndexError):
        return {}
    return found


def _info(reply: Any) -> dict[str, str]:
    rows = (row.partition(":") for row in _text(reply).splitlines())
    return {name: value for name, separator, value in rows if separator}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
