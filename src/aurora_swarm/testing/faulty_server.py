"""A loopback model server that does what it is told: answer, or fail in every way that a server can."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self, cast

import msgspec

from aurora_swarm.testing import answers
from aurora_swarm.values.endpoint import AgentEndpoint

_LINGER_0 = struct.pack("ii", 1, 0)

End = Literal["keep", "close", "reset", "hang"]
Framing = Literal["length", "chunked", "close"]


class Request(msgspec.Struct, frozen=True):
    """What arrived.

    Args:
        method: ``GET``, ``POST`` ...
        path: As on the request line.
        headers: Names in lower case.
        body: All of it.
        at: Seconds on the loop's clock.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        """The body's value."""
        return msgspec.json.decode(self.body)


class Closed(msgspec.Struct, frozen=True):
    """A client that went away before its answer was whole.

    Args:
        request: What it had asked.
        at: Seconds on the loop's clock.
    """

    request: Request
    at: float


class Answer(msgspec.Struct, frozen=True):
    """How to answer one request. Without arguments: rightly.

    Args:
        body: The body; None for what a well server says to that path, which repeats the prompt.
        status: HTTP status.
        headers: Further headers.
        edit: Changes the right answer's value before it is written (reorder choices, drop one, wrong types).
        raw: Bytes to send in place of everything, head included.
        delay_s: Wait before the first byte.
        piece: Send in pieces of this many bytes; 0 for all at once.
        pause_s: Wait between pieces.
        cut_at: Send only this many bytes, of head and body together; negative counts from the end.
        cut_body_at: Send the head and only this many bytes of what follows it.
        framing: How the body's end is told.
        end: What follows the last byte. A cut answer that keeps its connection is closed.
    """

    body: bytes | None = None
    status: int = 200
    headers: Mapping[str, str] = {}
    edit: Callable[[Any], Any] | None = None
    raw: bytes | None = None
    delay_s: float = 0.0
    piece: int = 0
    pause_s: float = 0.0
    cut_at: int | None = None
    cut_body_at: int | None = None
    framing: Framing = "length"
    end: End = "keep"


OK = Answer()
HANG = Answer(cut_at=0, end="hang")
HANG_AFTER_HEAD = Answer(cut_body_at=0, end="hang")
RESET = Answer(cut_at=0, end="reset")
RESET_AFTER_HEAD = Answer(cut_body_at=0, end="reset", delay_s=0.01)
CLOSE = Answer(cut_at=0, end="close")
GARBAGE = Answer(raw=b"\x00\x01 this is not HTTP\r\n\r\n", end="close")
HTML = Answer(b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>", 502)

Script = Answer | Iterable[Answer] | Callable[[Request], Answer]


def error_status(status: int, message: str = "it went wrong", **headers: str) -> Answer:
    """A status with OpenAI's error object; underscores in header names become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(answers.encode(answers.error(message, status)), status, named)


class FaultyServer:
    """A server on 127.0.0.1 for ``/generate``, chat completions, completions, embeddings, models and health.

    Use it as ``async with FaultyServer(script) as server:``. A well answer repeats the prompt. Leaving the
    context ends every connection.

    Args:
        script: One answer for all requests; answers that are used up in order, the last one staying; or a function
            of the request. ``GET`` requests are answered rightly unless the script is a function.
        models: What it lists.

    Attributes:
        requests: Whatever arrived, in order.
        closed_early: Clients that went away before their answer was whole.
        connections: Connections accepted so far.
        connections_open: Connections open now.
        most_open: Most connections that were open at a time.
    """

    def __init__(self, script: Script = OK, *, models: Iterable[str] = (answers.MODEL,)) -> None:
        self._script = script if callable(script) else _in_order(script)
        self.models = tuple(models)
        self.requests: list[Request] = []
        self.closed_early: list[Closed] = []
        self.connections = 0
        self.most_open = 0
        self._open: set[_Connection] = set()
        self._port = 0
        self._listener: asyncio.Server | None = None

    @property
    def connections_open(self) -> int:
        """Connections open now."""
        return len(self._open)

    @property
    def endpoint(self) -> AgentEndpoint:
        """Where it listens, or last listened."""
        return AgentEndpoint("127.0.0.1", self._port)

    @property
    def url(self) -> str:
        """Base URL."""
        return self.endpoint.url

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; on the same port as before when it has been stopped."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, backlog=4096)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and end those that are open, as a server that dies."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        tasks = [task for connection in list(self._open) if (task := connection.abort()) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports tell that they are lost

    async def until(self, condition: Callable[[], object], timeout_s: float = 5.0) -> None:
        """Wait until something about this server holds.

        Raises:
            TimeoutError: It does not within `timeout_s`.
        """
        async with asyncio.timeout(timeout_s):
            while not condition():  # noqa: ASYNC110 - the condition may be about anything
                await asyncio.sleep(0.002)

    def accepted(self, connection: _Connection) -> None:
        """Called by a connection that begins."""
        self.connections += 1
        self._open.add(connection)
        self.most_open = max(self.most_open, len(self._open))

    def lost(self, connection: _Connection) -> None:
        """Called by a connection that ends."""
        self._open.discard(connection)

    def answer_to(self, request: Request) -> Answer:
        """Called by a connection for every request."""
        self.requests.append(request)
        return self._script(request)


class _Connection(asyncio.Protocol):
    """One client; requests are answered one after the other."""

    def __init__(self, server: FaultyServer) -> None:
        self._server = server
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Task[None] | None = None
        self._request: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._server.accepted(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._server.lost(self)
        if self._answering is not None and self._request is not None:
            self._server.closed_early.append(Closed(self._request, asyncio.get_running_loop().time()))
            self._answering.cancel()

    def abort(self) -> asyncio.Task[None] | None:
        """End at once; returns what still has to be awaited."""
        task, self._answering = self._answering, None
        if self._transport is not None:
            self._transport.abort()
        return task

    def _next(self) -> None:
        if self._answering is None and (request := self._take_request()) is not None:
            self._request = request
            self._answering = asyncio.get_running_loop().create_task(self._answer(request))

    def _take_request(self) -> Request | None:
        head, found, rest = bytes(self._received).partition(b"\r\n\r\n") if self._complete() else (b"", b"", b"")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0))
        self._received = bytearray(rest[length:])
        return Request(method, path, headers, rest[:length], asyncio.get_running_loop().time())

    def _complete(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._received[:end]).lower()
        _, found, after = head.partition(b"content-length:")
        length = int(after.split(b"\r\n", 1)[0]) if found else 0
        return len(self._received) >= end + 4 + length

    async def _answer(self, request: Request) -> None:
        transport = self._transport
        assert transport is not None
        answer = self._server.answer_to(request)
        await asyncio.sleep(answer.delay_s)
        if answer.raw is not None:
            whole, end = answer.raw, answer.end
        else:
            whole, end = _cut(answer, *_written(answer, request, self._server.models))
        await self._send(transport, whole, answer)
        if end == "hang":
            await asyncio.Event().wait()
        self._answering = None
        if end == "reset":
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
            transport.abort()
        elif end == "close":
            transport.close()
        else:
            self._next()

    async def _send(self, transport: asyncio.Transport, whole: bytes, answer: Answer) -> None:
        step = answer.piece or max(len(whole), 1)
        for start in range(0, len(whole), step):
            if start:
                await asyncio.sleep(answer.pause_s)
            transport.write(whole[start : start + step])


def _in_order(script: Answer | Iterable[Answer]) -> Callable[[Request], Answer]:
    if isinstance(script, Answer):
        return lambda request: OK if request.method == "GET" else script
    rest = list(script)

    def following(request: Request) -> Answer:
        if request.method == "GET" or not rest:
            return OK
        return rest.pop(0) if len(rest) > 1 else rest[0]

    return following


def _written(answer: Answer, request: Request, models: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Head, and the body as it goes over the wire."""
    body, kind = (answer.body, "application/json") if answer.body is not None else _right(answer, request, models)
    status = answer.status
    if body is None:
        body, status = answers.encode({"detail": "Not Found"}), 404
    headers = {"content-type": kind, **answer.headers}
    if answer.framing == "length":
        headers["content-length"] = str(len(body))
    elif answer.framing == "chunked":
        headers["transfer-encoding"] = "chunked"
        body = _chunked(body)
    else:
        headers["connection"] = "close"
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1"), body


def _chunked(body: bytes) -> bytes:
    """One chunk per event of a stream, as engines send them; one for anything else."""
    parts = [part + b"\n\n" for part in body.split(b"\n\n") if part] if body.startswith(b"data:") else [body]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"


def _cut(answer: Answer, head: bytes, body: bytes) -> tuple[bytes, End]:
    whole = head + body
    at = answer.cut_at if answer.cut_body_at is None else len(head) + answer.cut_body_at
    if at is not None:
        return whole[:at], "close" if answer.end == "keep" else answer.end
    return whole, "close" if answer.framing == "close" and answer.end == "keep" else answer.end


def _right(answer: Answer, request: Request, models: tuple[str, ...]) -> tuple[bytes | None, str]:
    """What a well server says, and its content type; no body for an unknown path."""
    if request.method == "POST" and request.json().get("stream"):
        value = request.json()
        prompt = value["messages"][-1]["content"]
        return answers.chat_stream([prompt[i : i + 5] for i in range(0, len(prompt), 5)], prompt=prompt), (
            "text/event-stream"
        )
    right = _value(request, models)
    if right is None:
        return None, "application/json"
    return answers.encode(answer.edit(right) if answer.edit else right), "application/json"


def _value(request: Request, models: tuple[str, ...]) -> Any:
    path = request.path
    if request.method == "GET":
        found = {"/v1/models": answers.models(*models), "/health": {"status": "ok"}}
        return found.get(path)
    value = request.json()
    if path.endswith("/generate"):
        return answers.generate(value["prompt"])
    if path.endswith("/chat/completions"):
        prompt = value["messages"][-1]["content"]
        return answers.chat(prompt, prompt=prompt)
    if path.endswith("/completions"):
        return answers.completions(value["prompt"], prompts=value["prompt"])
    if path.endswith("/embeddings"):
        return answers.embeddings([answers.vector_of(text) for text in value["input"]])
    return None
