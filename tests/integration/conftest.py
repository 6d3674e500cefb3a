"""Loopback servers on a loop of their own, for programs that run beside the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aurora_swarm.testing.faulty_server import OK, FaultyServer, Script

Serve = Callable[..., FaultyServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a `FaultyServer` in another thread; it runs until the test ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="loopback-servers")
    thread.start()
    servers: list[FaultyServer] = []

    def wait_for(coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=10)

    def start(script: Script = OK, **options: Any) -> FaultyServer:
        server = FaultyServer(script, **options)
        wait_for(server.start())
        servers.append(server)
        return server

    yield start
    for server in servers:
        wait_for(server.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=10)
    loop.close()
