"""Opens messages by URL; the only place that names the classes behind the port."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aurora_swarm.errors import UsageError
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.swarms.messages.log import Log
from aurora_swarm.swarms.messages.messages import Messages

_KINDS = "memory://, redis://HOST:PORT, http://HOST:PORT, or store+ and the URL of a vector store"


@asynccontextmanager
async def open_messages(
    place: str = "memory://",
    *,
    keep: int = 10_000,
    space: str = "aurora",
    token: str = "",
    patience_s: float = 30.0,
    embedder: Embedder | None = None,
) -> AsyncIterator[Messages]:
    """Open what agents talk through, for as long as the context lasts; then whoever waits for messages goes on.

    Args:
        place: ``memory://`` is for this process, and ends with the context. ``redis://host:6379/0`` (``rediss://``,
            ``unix:///path``) is for all who use that Redis. ``http://host:port`` is what another process serves with
            `serve_messages`. ``store+local://folder`` (``store+memory://``, ``store+chroma://host:port``) keeps them in
            a vector store, where they can be recalled by meaning.
        keep: Messages per topic, and per mailbox; where other processes can write, as each process says. Of served
            messages the server says it.
        space: What is shared: beginning of the names in Redis or in the store.
        token: Of the server, for ``http://`` and ``https://``.
        patience_s: Seconds for which Redis or the server is waited for, each time it cannot be reached.
        embedder: Of the store; its default when None.

    Raises:
        UsageError: The place is none of these, a library for it is not installed, or it refuses us.
        StorageError: It could not be reached or read.
    """
    if keep < 1 or not patience_s >= 0:
        raise UsageError("keep must be at least 1, and patience_s not below 0")
    log = await _opened(place, keep=keep, space=space, token=token, patience_s=patience_s, embedder=embedder)
    try:
        yield Messages(log)
    finally:
        await log.aclose()


async def _opened(
    place: str, *, keep: int, space: str, token: str, patience_s: float, embedder: Embedder | None
) -> Log:
    scheme = place.partition("://")[0]
    if scheme == "memory":
        from aurora_swarm.swarms.messages.in_process import InProcessLog  # noqa: PLC0415 - imported when it is chosen

        return InProcessLog(keep=keep)
    if scheme in {"redis", "rediss", "unix"}:
        _need("redis", "redis")
        from aurora_swarm.swarms.messages.redis_streams import RedisLog  # noqa: PLC0415

        return await RedisLog.open(place, space=space, keep=keep, patience_s=patience_s)
    if scheme in {"http", "https"}:
        from aurora_swarm.swarms.messages.http_client import HttpLog  # noqa: PLC0415
        from aurora_swarm.transports.http_ry import RyHttp  # noqa: PLC0415

        return HttpLog(RyHttp(), place, token, patience_s=patience_s)
    if scheme.startswith("store+"):
        return await _stored(place.removeprefix("store+"), keep=keep, space=space, embedder=embedder)
    raise UsageError(f"{place!r} is no place for messages", remedy=f"use {_KINDS}")


async def _stored(url: str, *, keep: int, space: str, embedder: Embedder | None) -> Log:
    from aurora_swarm.memory.open import open_store  # noqa: PLC0415
    from aurora_swarm.swarms.messages.stored import StoredLog  # noqa: PLC0415

    store = await open_store(url, embedder=embedder)
    try:
        return await StoredLog.open(store, space=space, keep=keep, shared=not url.startswith(("memory:", "local:")))
    except BaseException:
        await store.aclose()
        raise


def _need(module: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"messages there need {module}", remedy=f"pip install 'aurora-swarm[{extra}]'")
