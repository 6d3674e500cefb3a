"""Lets a run be watched and steered from other processes of the same user, over a Unix socket.

Each request is answered where it is read, between two steps of the event loop: a task per request would wait for its
turn among those of ten thousand agents.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.control import Controls
from aurora_swarm.swarms.control_wire import MOST_LINE, Reply, Request, check_place, control_path

_MOST_CLIENTS = 64
_IDLE_S = 300.0
_STUCK_S = 10.0
"""A client that does not read its replies for so long is let go."""
_LAST_S = 1.0
_TRY = 'send one JSON object a line, such as {"op": "status"}'

_decode = msgspec.json.Decoder(Request).decode
_encode = msgspec.json.Encoder().encode


@asynccontextmanager
async def serve_controls(controls: Controls, path: Path | None = None) -> AsyncIterator[Path]:
    """Answer requests about a run for as long as the context lasts.

    Only this user can connect: the socket has mode 0600 and lies in a folder with mode 0700. A line is at most 64 KiB,
    a request that cannot be met is answered with one sentence, and requests of one client are answered in their order.
    At most 64 clients are connected at a time; one that is silent for 300 s, or does not read for 10 s, is let go.

    Args:
        controls: The run. Its methods are called on this event loop.
        path: Where the socket is put; named by the run's id in `control_folder` when None. What a process that was
            killed has left there is replaced.

    Yields:
        The path of the socket; it is gone when the context ends.

    Raises:
        UsageError: The path cannot be used, others may enter its folder, or another run answers there.
    """
    place = control_path(controls.id) if path is None else path
    check_place(place)
    listener = _bound(place)
    clients: set[_Client] = set()
    mark = place.stat().st_ino
    server = await asyncio.get_running_loop().create_unix_server(lambda: _Client(controls, clients), sock=listener)
    try:
        yield place
    finally:
        server.close()
        for client in list(clients):
            client.close()
        with suppress(OSError):
            if place.stat().st_ino == mark:  # not that of somebody who came after us
                place.unlink()


def _bound(place: Path) -> socket.socket:
    """A socket at a path, from the first moment on only for this user."""
    _clear(place)
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listener.fileno(), 0o600)  # Linux takes the file's mode from it
        listener.bind(str(place))
        place.chmod(0o600)
        listener.listen(_MOST_CLIENTS)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise UsageError(f"{place} cannot be used: {error.strerror}", remedy="give another path") from error
    return listener


def _clear(place: Path) -> None:
    """Take away the socket of a run that is no more."""
    if not place.exists():
        return
    if not place.is_socket():
        raise UsageError(f"{place} is there, and is no socket", remedy="give another path")
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(1.0)
        try:
            other.connect(str(place))
        except ConnectionRefusedError:
            place.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{place} cannot be used: {error.strerror}", remedy="give another path") from error
        else:
            raise UsageError(f"another run answers at {place}", remedy="give another path, or end that run")


class _Client(asyncio.Protocol):
    """One connection: a request is answered as soon as its line is here, one in each step of the loop."""

    def __init__(self, controls: Controls, clients: set[_Client]) -> None:
        self._controls = controls
        self._clients = clients
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._reading = True
        self._ended = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._next: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it
        if len(self._clients) >= _MOST_CLIENTS:
            self._refuse(f"{_MOST_CLIENTS} clients are connected already", "try again when one of them has gone")
            return
        self._clients.add(self)
        self._wait(_IDLE_S)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - what asyncio calls it with
        self._clients.discard(self)
        for handle in (self._timer, self._next):
            if handle is not None:
                handle.cancel()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._next is None and self._reading:
            self._answer_one()

    def eof_received(self) -> bool:
        """The other side has said all that it wants to; what it asked is still answered."""
        self._ended = True
        self._go_on()
        return True

    def pause_writing(self) -> None:
        self._read(False)
        self._wait(_STUCK_S)

    def resume_writing(self) -> None:
        self._read(True)
        self._wait(_IDLE_S)
        self._go_on()

    def close(self) -> None:
        """End it; what was answered is still sent, if it is read within a second."""
        if self._transport is not None:
            self._transport.close()
            self._wait(_LAST_S)

    def _answer_one(self) -> None:
        self._next = None
        end = self._received.find(b"\n", 0, MOST_LINE)
        if end >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._say(_reply(self._controls, line))
            self._go_on()
        elif len(self._received) >= MOST_LINE:
            self._refuse(f"a request is at most {MOST_LINE} bytes", "say it shorter")
        elif self._ended:
            self.close()

    def _go_on(self) -> None:
        """Have the next line answered in another step, so that a client with many requests holds nobody up."""
        if self._reading and self._next is None and (self._ended or b"\n" in self._received):
            self._next = self._loop.call_soon(self._answer_one)

    def _read(self, reading: bool) -> None:
        self._reading = reading
        if self._transport is not None and not self._ended:
            (self._transport.resume_reading if reading else self._transport.pause_reading)()

    def _say(self, reply: Reply) -> None:
        if self._transport is not None:
            self._wait(_IDLE_S)
            self._transport.write(_encode(reply) + b"\n")

    def _refuse(self, problem: str, remedy: str) -> None:
        self._say(Reply(ok=False, error=problem, remedy=remedy))
        self.close()

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._let_go)

    def _let_go(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _reply(controls: Controls, line: bytes) -> Reply:
    try:
        request = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Reply(ok=False, error=f"that is no request: {error}", remedy=_TRY)
    try:
        return _done(controls, request)
    except UsageError as error:
        return Reply(ok=False, error=str(error), remedy=error.remedy)


def _done(controls: Controls, request: Request) -> Reply:
    if request.op == "status":
        return Reply(status=controls.status())
    if request.op == "items":
        return Reply(items=controls.items(kind=request.kind, state=request.state, limit=request.limit))
    if not request.id:
        raise UsageError(
            f"{request.op} needs an id", remedy="give that of a task, a worker or the run; items lists them"
        )
    if request.op == "item":
        return Reply(items=[controls.item(request.id)])
    _act(controls, request)
    return Reply()


def _act(controls: Controls, request: Request) -> None:
    match request.op:
        case "pause":
            controls.pause(request.id)
        case "resume":
            controls.resume(request.id)
        case "cancel":
            controls.cancel(request.id)
        case "requeue":
            controls.requeue(request.id)
        case "steer":
            if not request.text.strip():
                raise UsageError(
                    "steer needs a text", remedy="say what is to be read before the next call to the model"
                )
            controls.steer(request.id, request.text)
