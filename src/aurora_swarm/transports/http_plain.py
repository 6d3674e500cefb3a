"""Whole answers over plain HTTP on connections of the event loop's own; everything else through `ry`.

Most of our requests go to inference servers in the same network, without TLS, and want one whole answer. For those a
connection that lives in the event loop costs half of what a client with threads of its own costs, since nothing has to
travel from thread to thread; httptools (Node's llhttp) reads what comes.
"""

from __future__ import annotations

import asyncio
import errno
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import cast

import httptools

from aurora_swarm.errors import BadResponseError, CallError, ConnectionLostError
from aurora_swarm.ports.http import HttpReply, HttpStream
from aurora_swarm.transports.connecting import (
    IDLE_TIMEOUT_S,
    Attempt,
    Places,
    Turns,
    closed_client,
    connect_error,
    no_files,
    no_whole_answer,
    not_in_time,
    unknown_host,
)
from aurora_swarm.transports.http_ry import RyHttp

_PLAIN = re.compile(r"http://(?:([A-Za-z0-9.-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?(/[!-~]*)?")
"""An address that needs no rewriting: no credentials, no escapes to add, nothing to guess."""
_FIELD = re.compile(
    r"(?!(?:host|content-length|transfer-encoding|connection|expect):)[!#-'*+.0-9A-Z^-z|~-]+: [\t -~]*", re.I
)
"""A header that is no part of the framing, and holds what a header can."""
_NO_FILES = (errno.EMFILE, errno.ENFILE)
_BY_ITSELF = 65_536
"""A body as long as this is not copied to stand behind its head."""
_CLOCK_TICK_S = 0.002
"""A timer may go off so much early: loops count in milliseconds."""
_PER_TURN = 64
"""Connections begun in one turn of the event loop."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
"""Between two tries of a request for which this process could open no connection."""


class PlainHttp:
    """An `aurora_swarm.ports.http.Http`.

    Requests wait for a connection when `max_connections` are busy, or when this process may open no further file
    (``ulimit -n``); that wait counts towards their `timeout_s`. Idle connections are kept for 4 s; over all hosts there
    are never more of them than may be busy, and where a new one is too many the oldest goes. A mapping of headers that
    is passed again must not have changed. `aclose` ends idle connections at once, and those in use with their request.

    Args:
        connect_timeout_s: Seconds to establish a connection.
        max_connections: Connections in use at most. None, or more than the process may open files
            (``ulimit -n``), means as many as fit.

    Raises:
        UsageError: A number is not positive.
    """

    def __init__(self, *, connect_timeout_s: float = 10.0, max_connections: int | None = None) -> None:
        self._places = Places(max_connections)
        self._other = RyHttp(connect_timeout_s=connect_timeout_s, places=self._places)
        self.max_connections = self._places.most
        self._connect_timeout_s = connect_timeout_s
        self._targets: dict[str, _Target | None] = {}
        self._hosts: dict[tuple[str, int], dict[_Connection, None]] = {}
        self._headers: tuple[Mapping[str, str] | None, bytes | None] = (None, None)
        self._idle: dict[_Connection, None] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._busy: dict[_Connection | Attempt, None] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: Turns
        self._closed = False

    async def request(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> HttpReply:
        """Send one request and read its whole answer.

        Raises:
            ConnectError: Nothing accepted the connection, or this client is closed.
            ConnectionLostError: The connection ended before the answer did.
            BadResponseError: The answer is not HTTP.
            AttemptTimeoutError: `timeout_s` passed.
        """
        try:
            target = self._targets[url]
        except KeyError:
            target = self._target(url)
        if headers is not self._headers[0]:
            self._headers = headers, _lines(headers)
        lines = self._headers[1]  # kept here: while this request waits, others come with headers of their own
        if target is None or lines is None or method == "HEAD":
            return await self._other.request(method, url, body=body, headers=headers, timeout_s=timeout_s)
        places, given_s = self._places, timeout_s
        if places.free:
            places.free -= 1
        else:
            timeout_s = await places.acquire(url, timeout_s)
        connection: _Connection | None = None
        try:
            if self._loop is None or self._loop.is_closed():
                self._enter_loop()
            connection = self._idle_one(target)
            if connection is None:
                timeout_s, connection = await self._connected(target, timeout_s)
            connection.timeout_s = given_s
            self._watch(connection, timeout_s)
            return await connection.ask(method, target, lines, body or b"")
        finally:
            if connection is not None:
                self._busy.pop(connection, None)
                self._give_back(connection)
            places.release()

    def stream(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        idle_timeout_s: float,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send one request and hand over the answer as soon as its headers are here.

        Raises:
            CallError: As `request` does; the pieces raise it too.
        """
        return self._other.stream(
            method, url, body=body, headers=headers, timeout_s=timeout_s, idle_timeout_s=idle_timeout_s
        )

    async def aclose(self) -> None:
        """Close idle connections now, those in use with their request. May be called twice."""
        self._closed = True
        self._drop_idle()
        if self._alarm is not None and not self._busy:
            self._alarm.cancel()
            self._alarm = None
        await self._other.aclose()

    # -- connections -------------------------------------------------------------------------------------------

    def _target(self, url: str) -> _Target | None:
        """Where a URL leads; None where the other client had better look at it."""
        found = _PLAIN.fullmatch(url)
        port = int(found[3] or 80) if found else 0
        target = None
        if found and port < 65_536:
            host = found[1] or found[2]
            target = _Target(url, host, port, found[4] or "/", self._hosts.setdefault((host, port), {}))
        self._targets[url] = target
        return target

    def _enter_loop(self) -> None:
        """What belongs to a loop that is over goes with it."""
        self._loop, self._sweeping, self._alarm = asyncio.get_running_loop(), None, None
        self._turns = Turns(_PER_TURN, self._loop)
        self._idle.clear()
        self._busy.clear()
        for idle in self._hosts.values():
            idle.clear()

    def _idle_one(self, target: _Target) -> _Connection | None:
        """The idle connection that was used last; None where none is open."""
        while target.idle:
            connection = target.idle.popitem()[0]
            del self._idle[connection]
            if connection.is_open:
                return connection
        return None

    async def _connected(self, target: _Target, timeout_s: float) -> tuple[float, _Connection]:
        """A new connection, or one that has come free, and the seconds that are left."""
        if self._closed:
            raise closed_client(target.base)
        assert self._loop is not None
        deadline, pause_s = self._loop.time() + timeout_s, _FIRST_PAUSE_S
        while True:
            await self._turns.mine()
            left_s = deadline - self._loop.time()
            if (idle := self._idle_one(target)) is not None:  # given back in the meantime
                return left_s, idle
            try:
                connection = await self._connect(target, left_s)
                return deadline - self._loop.time(), connection
            except OSError as error:
                if error.errno not in _NO_FILES:
                    raise connect_error(error, target.base) from None
            # Nothing was sent, and the endpoint is not to blame: again when a file may have become free. The request
            # keeps its place, so that fewer are under way.
            self._drop_idle()
            left_s = deadline - self._loop.time()
            if left_s <= 0:
                raise no_files(target.base)
            await self._places.until_one_ends(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _connect(self, target: _Target, left_s: float) -> _Connection:
        loop, limit_s = self._loop, min(self._connect_timeout_s, left_s)
        assert loop is not None
        attempt = Attempt(loop)
        self._watch(attempt, limit_s)
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self, target), target.host, target.port)
        except asyncio.CancelledError:
            if not attempt.is_ours():
                raise
            late = not_in_time(target.base) if limit_s == self._connect_timeout_s else None
            raise late or no_whole_answer(target.base, left_s) from None
        except TimeoutError:  # the system's own
            raise not_in_time(target.base) from None
        except UnicodeError:
            raise unknown_host(target.base) from None
        finally:
            self._busy.pop(attempt, None)
        return connection

    def _watch(self, busy: _Connection | Attempt, timeout_s: float) -> None:
        """Have something ended in time. One timer for all of it: most deadlines are far, and are never reached."""
        assert self._loop is not None
        busy.deadline = deadline = self._loop.time() + timeout_s
        self._busy[busy] = None
        if self._alarm is None or deadline < self._alarm_at:
            self._set_alarm(deadline)

    def _set_alarm(self, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        assert self._loop is not None
        self._alarm, self._alarm_at = self._loop.call_at(deadline, self._end_late_ones), deadline

    def _end_late_ones(self) -> None:
        assert self._loop is not None
        now, self._alarm = self._loop.time() + _CLOCK_TICK_S, None
        for late in [each for each in self._busy if each.deadline <= now]:
            del self._busy[late]
            late.expire()
        if self._busy:
            self._set_alarm(min(each.deadline for each in self._busy))

    def _give_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer is whole; end any other."""
        if not connection.is_reusable or self._closed:
            connection.close()
            return
        assert self._loop is not None
        connection.since = self._loop.time()
        connection.target.idle[connection] = None
        self._idle[connection] = None
        if len(self._idle) > self._places.most_idle:
            self._drop(next(iter(self._idle)))
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(IDLE_TIMEOUT_S, self._sweep)

    def _sweep(self) -> None:
        """End connections that have been idle for too long; the oldest stand first."""
        assert self._loop is not None
        oldest_allowed = self._loop.time() - IDLE_TIMEOUT_S
        self._sweeping = None
        while self._idle:
            connection = next(iter(self._idle))
            if connection.since > oldest_allowed:
                self._sweeping = self._loop.call_at(connection.since + IDLE_TIMEOUT_S, self._sweep)
                return
            self._drop(connection)

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            self._drop(connection)
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def _drop(self, connection: _Connection) -> None:
        self.forget(connection)
        connection.close()

    def forget(self, connection: _Connection) -> None:
        """A connection is not to be used again."""
        if self._idle.pop(connection, self) is None:
            connection.target.idle.pop(connection, None)


class _Target:
    """Where a URL leads.

    Args:
        url: The URL.
        host: Name or address.
        port: Port.
        path: Path and query.
        idle: Idle connections to that host and port, the latest last.
    """

    __slots__ = ("base", "host", "idle", "path", "port")

    def __init__(self, url: str, host: str, port: int, path: str, idle: dict[_Connection, None]) -> None:
        self.base = url.removesuffix(path)
        self.host = host
        self.port = port
        self.path = f" {path} HTTP/1.1\r\nhost: {self.base.removeprefix('http://')}\r\n".encode()
        self.idle = idle


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request.

    Args:
        client: Whose it is.
        target: Where it leads.

    Attributes:
        is_reusable: Whether its answer is whole, and another request may follow.
        since: Since when it is idle, on the loop's clock.
        deadline: Until when its request must be answered, on the same clock.
        timeout_s: Seconds that the request had.
    """

    __slots__ = (
        "_body", "_client", "_fields", "_is_framed", "_loop", "_parser", "_transport", "_waiter",
        "deadline", "is_reusable", "since", "target", "timeout_s",
    )  # fmt: skip

    def __init__(self, client: PlainHttp, target: _Target) -> None:
        self.target = target
        self.is_reusable = False
        self.since = 0.0
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[HttpReply] | None = None
        self.deadline = self.timeout_s = 0.0
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._is_framed: bool | None = None
        self._parser = httptools.HttpResponseParser(self)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return not self._transport.is_closing()

    async def ask(self, method: str, target: _Target, lines: bytes, body: bytes) -> HttpReply:
        """Send a request and read its answer."""
        if not self.is_open:  # a new one that was closed at once
            raise ConnectionLostError("the connection ended before the request was sent", endpoint=target.base)
        self.is_reusable = False
        waiter = self._waiter = self._loop.create_future()
        head = b"%s%s%scontent-length: %d\r\n\r\n" % (method.encode(), target.path, lines, len(body))
        if len(body) < _BY_ITSELF:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        try:
            reply: HttpReply = await waiter
            return reply
        finally:
            self._waiter = None

    def expire(self) -> None:
        """The time of its request is over."""
        self._fail(no_whole_answer(self.target.base, self.timeout_s))
        self.close()

    def close(self) -> None:
        """End it at once, so that a server stops what it does for us."""
        self._transport.abort()

    # -- what the event loop tells -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(BadResponseError("the answer is not HTTP", endpoint=self.target.base))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; an answer without a length ends so."""
        self._client.forget(self)
        if exc is None and self._is_framed is False:
            self.on_message_complete()
        self.is_reusable = False
        self._fail(ConnectionLostError("the connection ended before the answer did", endpoint=self.target.base))
        del self._parser  # which holds our methods: neither would go before the collector came

    def _fail(self, error: CallError) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # -- what the parser finds ---------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """An answer begins; one that nobody asked for ends the connection."""
        if self._waiter is None or self._waiter.done():
            self.is_reusable = False
            self._client.forget(self)
            self.close()
        self._begin_answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header is whole."""
        self._fields.setdefault(name.lower(), value)  # of several with one name the first counts

    def on_headers_complete(self) -> None:
        """All headers are there."""
        fields = self._fields
        self._is_framed = (
            b"content-length" in fields
            or b"transfer-encoding" in fields
            or self._parser.get_status_code() in {204, 304}
        )

    def on_body(self, chunk: bytes) -> None:
        """A piece of the body is there."""
        self._body.append(chunk)

    def on_message_complete(self) -> None:
        """An answer is whole; one that only says that another one will follow is none."""
        waiter, status = self._waiter, self._parser.get_status_code()
        if waiter is None or waiter.done() or status < 200:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if b"content-encoding" in self._fields:
            try:
                body = _decoded(body, self._fields[b"content-encoding"])
            except zlib.error:
                self._fail(BadResponseError("the answer is no gzip", endpoint=self.target.base))
                return
        unsent = self._transport.get_write_buffer_size()
        self.is_reusable = bool(self._is_framed) and not unsent and self._parser.should_keep_alive()
        waiter.set_result(HttpReply(status, body, _Headers(self._fields)))

    def _begin_answer(self) -> None:
        self._fields = {}
        self._body = []
        self._is_framed = None


class _Headers(Mapping[str, str]):
    """Headers of an answer, decoded only when somebody looks: most answers' are never looked at."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.encode("latin-1", "replace")].decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def _decoded(body: bytes, encoding: bytes) -> bytes:
    if encoding.lower() not in {b"gzip", b"x-gzip"}:
        return body
    unzip = zlib.decompressobj(wbits=31)
    whole = unzip.decompress(body) + unzip.flush()
    if not unzip.eof:
        raise zlib.error("cut off")
    return whole


def _lines(headers: Mapping[str, str]) -> bytes | None:
    """Headers as they are sent; None where the other client had better look at them."""
    lines = {name.lower(): f"{name}: {value}" for name, value in headers.items()}
    if not all(map(_FIELD.fullmatch, lines.values())):
        return None
    ours = {"user-agent": "user-agent: aurora-swarm", "accept": "accept: */*"}
    return "".join(f"{line}\r\n" for line in (ours | lines).values()).encode()
