"""Serves messages over HTTP, so that other processes and machines can talk through them."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.swarms.messages.http_wire import Answer, Append, Drop, End, Read, Recall
from aurora_swarm.swarms.messages.log import Log
from aurora_swarm.swarms.messages.message import MOST_BYTES
from aurora_swarm.swarms.messages.messages import Messages

_MOST_BODY = 2 * MOST_BYTES
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LAST_S = 3

Handler = Callable[[Log, msgspec.Struct], Awaitable[Answer]]


class Served(msgspec.Struct, frozen=True):
    """Where messages are served.

    Args:
        url: For `open_messages`.
        token: For `open_messages`.
    """

    url: str
    token: str


@asynccontextmanager
async def serve_messages(
    messages: Messages, *, host: str = "127.0.0.1", port: int = 0, token: str | None = None
) -> AsyncIterator[Served]:
    """Serve messages for as long as the context lasts; whoever has the token can read and send all of them.

    Args:
        messages: What is served; it stays open.
        host: Where it listens.
        port: On which port; 0 for any that is free.
        token: What clients must know; a random one when None.

    Raises:
        UsageError: The token is too short, or the address cannot be used.
    """
    token = secrets.token_urlsafe(24) if token is None else token
    if len(token) < 16:
        raise UsageError("the token is too short to keep others out", remedy="give at least 16 characters, or none")
    listener = _listening(host, port)
    bound: int = listener.getsockname()[1]
    closing = asyncio.Event()
    gate = _Gate(token, {host, *(_LOOPBACK if host in _LOOPBACK else ())})
    app = _app(messages.log, gate, closing)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=_LAST_S, ws="none"
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        shown = f"[{host}]" if ":" in host else host
        yield Served(f"http://{shown}:{bound}", token)
    finally:
        closing.set()
        server.should_exit = True
        await running
        listener.close()


def _app(log: Log, gate: _Gate, closing: asyncio.Event) -> Starlette:
    handlers: dict[str, tuple[type[msgspec.Struct], Handler]] = {
        "append": (Append, _append),
        "read": (Read, _read),
        "end": (End, _end),
        "drop": (Drop, _drop),
        "recall": (Recall, _recall),
    }
    routes = [
        Route(f"/v1/{name}", _endpoint(log, gate, closing, kind, handler), methods=["POST"])
        for name, (kind, handler) in handlers.items()
    ]
    return Starlette(routes=routes)


class _Server(uvicorn.Server):
    """Signals are the business of the program, not of this server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Gate:
    """Who comes in: whoever knows the token, addressed us by our name, and is no page in a browser."""

    def __init__(self, token: str, hosts: set[str]) -> None:
        self._expected = f"Bearer {token}".encode()
        self._hosts = hosts

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that does not come in."""
        if request.url.hostname not in self._hosts or "origin" in request.headers:
            return _answered(
                403, Answer(error="requests from elsewhere are not answered", remedy="use its own address")
            )
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._expected):
            return _answered(401, Answer(error="the token is wrong or missing", remedy="give token="))
        return None


def _endpoint(
    log: Log, gate: _Gate, closing: asyncio.Event, kind: type[msgspec.Struct], handler: Handler
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if (refusal := gate.refusal(request)) is not None:
            return refusal
        try:
            wanted = msgspec.json.decode(await _body(request), type=kind)
            return _answered(200, await _unless_over(request, closing, handler(log, wanted)))
        except _REFUSED as error:
            return _refused(error, is_closed=log.closed)

    return answer


async def _append(log: Log, wanted: msgspec.Struct) -> Answer:
    assert isinstance(wanted, Append)
    await log.append(wanted.message)
    return Answer()


async def _read(log: Log, wanted: msgspec.Struct) -> Answer:
    assert isinstance(wanted, Read)
    return Answer(entries=tuple(await log.read(wanted.after, limit=wanted.limit, wait_s=wanted.wait_s)))


async def _end(log: Log, wanted: msgspec.Struct) -> Answer:
    assert isinstance(wanted, End)
    return Answer(position=await log.end(wanted.channel))


async def _drop(log: Log, wanted: msgspec.Struct) -> Answer:
    assert isinstance(wanted, Drop)
    await log.drop(wanted.channel, wanted.upto)
    return Answer()


async def _recall(log: Log, wanted: msgspec.Struct) -> Answer:
    assert isinstance(wanted, Recall)
    return Answer(messages=tuple(await log.recall(wanted.query, wanted.k, wanted.wanted)))


class _TooLargeError(Exception):
    """The body is larger than any that we ask for."""


class _OverError(Exception):
    """Nobody waits for the answer any more, or the server closes."""


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BODY:
            raise _TooLargeError
    return bytes(body)


async def _unless_over(request: Request, closing: asyncio.Event, work: Awaitable[Answer]) -> Answer:
    """What the work comes to; it ends when the client goes away or the server closes."""
    tasks = [asyncio.ensure_future(each) for each in (work, _gone(request), closing.wait())]
    working = tasks[0]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _OverError
        return working.result()  # type: ignore[return-value]  # the first is the work
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


_REFUSED = (
    msgspec.DecodeError,
    UnicodeDecodeError,
    StorageError,
    UsageError,
    _OverError,
    _TooLargeError,
    ClientDisconnect,
)


def _refused(error: Exception, *, is_closed: bool) -> Response:
    """The answer where there is none."""
    match error:
        case StorageError():
            return _answered(503 if error.path else 409, Answer(error=error.problem, remedy=error.remedy))
        case UsageError():
            return _answered(410 if is_closed else 400, Answer(error=error.problem, remedy=error.remedy))
        case _OverError():
            return _answered(503, Answer(error="the server closes", remedy="ask again"))
        case msgspec.DecodeError() | UnicodeDecodeError():
            return _answered(400, Answer(error=f"that is no request: {error}", remedy="use open_messages"))
        case _:
            return _answered(413, Answer(error=f"a request has at most {_MOST_BODY} bytes", remedy="send less"))


def _answered(status: int, answer: Answer) -> Response:
    return Response(msgspec.json.encode(answer), status_code=status, media_type="application/json")


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        problem = f"{host}:{port} cannot be listened on: {error.strerror}"
        raise UsageError(problem, remedy="choose another port, or 0 for any") from error
    # Connections take it over. Else a small answer waits 40 ms for the client to acknowledge its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
