"""A way to a server on a Unix socket that loses connections when the server has done what it was asked, and answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

_READ = 65_536


class CuttingProxy:
    """Passes on what is said, and cuts some of the answers off.

    Args:
        upstream: The server's socket.
        share: Of the answers that are cut off: evenly, so that as many are in every run.

    Attributes:
        cuts: How many were.
    """

    def __init__(self, upstream: Path, share: float) -> None:
        self.cuts = 0
        self.share = share
        self._upstream = upstream
        self._owed = 0.0
        self._served: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def at(self, path: Path) -> AsyncIterator[None]:
        """Serve on a socket."""
        server = await asyncio.start_unix_server(self._accept, path)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            if self._served:
                await asyncio.wait(self._served)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._served.add(task)
        task.add_done_callback(self._served.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(self._upstream)
        ways = {
            asyncio.create_task(self._pass(reader, there_writer, 0.0)),
            asyncio.create_task(self._pass(there_reader, writer, self.share)),
        }
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.wait(ways)
        for each in (writer, there_writer):
            each.close()
            with suppress(OSError):
                await each.wait_closed()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, share: float) -> None:
        with suppress(OSError):
            while data := await reader.read(_READ):
                self._owed += share
                if self._owed >= 1.0:
                    self._owed -= 1.0
                    self.cuts += 1
                    writer.write(data[: len(data) // 2])
                    return
                writer.write(data)
                await writer.drain()
