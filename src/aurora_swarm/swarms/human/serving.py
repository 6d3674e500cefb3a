"""A small web server on this loop, for as long as a context lasts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette

from aurora_swarm.errors import UsageError

_FAREWELL_S = 2
"""How long answers under way may take once the context is left."""


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        """Waits instead of looking ten times a second, which serves to send the date; we do not."""
        await self._stopping.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the program's own business."""
        yield


def bound(host: str, port: int) -> socket.socket:
    """A socket bound to an address of this machine; port 0 takes a free one.

    Raises:
        UsageError: The port is taken, or not to be had.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        remedy = "give another port, or 0 for any that is free"
        raise UsageError(f"cannot listen at {host}:{port}: {error}", remedy=remedy) from None
    return listening


@asynccontextmanager
async def served(app: Starlette, listening: socket.socket) -> AsyncIterator[None]:
    """Serve until the context is left, which takes a tenth of a second.

    Args:
        app: What answers.
        listening: Where; closed at the end.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_FAREWELL_S,
    )
    server = _Server(config)
    task = asyncio.get_running_loop().create_task(server.serve([listening]))
    try:
        await _first(task, server.up)
        yield
    finally:
        server.stop()
        try:
            await task
        finally:
            listening.close()


async def _first(task: asyncio.Task[None], up: asyncio.Event) -> None:
    """Wait until the server is up, or has failed."""
    waiting = asyncio.get_running_loop().create_task(up.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    if task.done():
        task.result()
