"""One client of a simulated server: requests are answered one after the other, also when they come at once."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Protocol, cast

from aurora_swarm.testing.fleet.http import JSON, MalformedError, Request, answer, expects_continue, take

_MALFORMED = b'{"error":{"message":"malformed request"}}'
_LINGER_0 = struct.pack("ii", 1, 0)
_MOST_AHEAD = 1 << 20
"""Bytes that a client may send ahead while it waits for an answer."""


class Host(Protocol):
    """The server that a connection belongs to."""

    def accepted(self, connection: Connection) -> None:
        """A client has come."""
        ...

    def lost(self, connection: Connection) -> None:
        """A client has gone."""
        ...

    def handle(self, connection: Connection, request: Request) -> None:
        """A request has come; `Connection.finish` ends it."""
        ...


class Cancellable(Protocol):
    """Work for a request."""

    def cancel(self) -> None:
        """The client went away."""
        ...


class Delivery(Protocol):
    """How bytes get to the client where something is wrong."""

    def write(self, data: bytes) -> None:
        """Bytes of the answer."""
        ...

    def lets_go(self) -> bool:
        """Whether the connection may take another request once the answer is written."""
        ...

    def cancel(self) -> None:
        """The connection is gone."""
        ...


class Connection(asyncio.Protocol):
    """See the module.

    Args:
        host: The server.

    Attributes:
        job: The work for the request that is under way.
        delivery: How bytes are delivered; None for at once.
    """

    __slots__ = ("_busy", "_host", "_keep", "_looping", "_paused", "_received", "_transport", "delivery", "job")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._busy = self._looping = self._paused = False
        self._keep = True
        self.job: Cancellable | None = None
        self.delivery: Delivery | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._host.accepted(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._received += data
        if not self._busy:
            self._next()
        elif len(self._received) > _MOST_AHEAD and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See `asyncio.Protocol`."""
        self._transport = None
        job, self.job = self.job, None
        if job is not None:
            job.cancel()
        if self.delivery is not None:
            self.delivery.cancel()
        self._host.lost(self)

    def write(self, data: bytes) -> None:
        """Bytes of the answer; nothing happens when the client has gone."""
        if self.delivery is not None:
            self.delivery.write(data)
        else:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Bytes to the socket, past whatever is wrong with the delivery."""
        if self._transport is not None:
            self._transport.write(data)

    def finish(self) -> None:
        """The answer is written: the next request may come, unless the delivery still holds it."""
        if self.delivery is not None:
            if not self.delivery.lets_go():
                return
            self.delivery = None
        self.job = None
        self._busy = False
        if not self._keep:
            self.close()
        elif self._received or self._paused:
            self._next()

    def close(self) -> None:
        """End the connection after what was written."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """End the connection at once, with a reset."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            self._transport.abort()

    def _next(self) -> None:
        """Answer what has come; a loop, since an answer may be ready at once."""
        if self._looping:
            return
        self._looping = True
        while not self._busy and (request := self._take()) is not None:
            self._busy, self._keep = True, request.keep_alive
            self._host.handle(self, request)
        self._looping = False
        if self._paused and not self._busy and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def _take(self) -> Request | None:
        if self._transport is None:
            return None
        try:
            request = take(self._received)
        except MalformedError as error:
            self._received.clear()
            self.send(answer(_MALFORMED, error.status, JSON, b"connection: close\r\n"))
            self.close()
            return None
        if request is None:
            if self._received and expects_continue(self._received):
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return None
        del self._received[: request.size]
        return request
