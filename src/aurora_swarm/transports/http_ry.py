"""The network through `ry`, Python bindings of Rust's reqwest. The only module that knows it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager

import ry

from aurora_swarm.errors import (
    AttemptTimeoutError,
    BadResponseError,
    CallError,
    ConnectError,
    ConnectionLostError,
    UsageError,
)
from aurora_swarm.ports.http import HttpReply
from aurora_swarm.transports.connecting import (
    IDLE_TIMEOUT_S,
    Places,
    base_of,
    closed_client,
    no_files,
    no_whole_answer,
    not_in_time,
    refused,
    unknown_host,
)

NO_PROXY_AT_ALL = "*,0.0.0.0/0,::/0"
"""An explicit proxy switches off those of the environment; this exempts every host from it. ``*`` alone exempts
names only: addresses need their own ranges."""

_GARBAGE = ("Parse(", "InvalidData", "InvalidInput")
_HOSTS_AT_FIRST = 16
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5
"""Between two tries of a request for which this process could open no connection."""


class RyHttp:
    """An `aurora_swarm.ports.http.Http`.

    Requests wait for a connection when `max_connections` are busy, or when this process may open no further file
    (``ulimit -n``); that wait counts towards their `timeout_s`.
    Idle connections are kept for 4 s and never outnumber the busy ones that are allowed: over very many hosts
    fewer are kept per host, at last none. A mapping of headers that is passed again must not have changed.
    `aclose` ends idle connections at once, and those in use with their request.

    Args:
        connect_timeout_s: Seconds to establish a connection.
        max_connections: Connections in use at most. None, or more than the process may open files
            (``ulimit -n``), means as many as fit.
        places: Places for connections that are shared with another client, instead of `max_connections`.

    Raises:
        UsageError: A number is not positive.
    """

    def __init__(
        self, *, connect_timeout_s: float = 10.0, max_connections: int | None = None, places: Places | None = None
    ) -> None:
        if not connect_timeout_s > 0:
            raise UsageError("connect_timeout_s must be above 0")
        self._connect_timeout_s = connect_timeout_s
        self._places = places or Places(max_connections)
        self.max_connections, self._max_idle = self._places.most, self._places.most_idle
        self._drop_at = 0.0
        self._urls: set[str] = set()
        self._hosts: set[str] = set()
        self._hosts_planned = max(min(_HOSTS_AT_FIRST, self._max_idle), 1)
        self._headers: tuple[Mapping[str, str] | None, ry.Headers] = (None, ry.Headers())
        self._closed = False
        self._plain = self._connect(tls_certs_only=[])  # loads no certificates: it never speaks TLS
        self._secure: ry.Client | None = None

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
        places = self._places
        if places.free:
            places.free -= 1
            left_s = timeout_s
        else:
            left_s = await places.acquire(url, timeout_s)
        try:
            try:
                response = await self._sent(method, url, body, headers, left_s)
            except ry.ReqwestError as error:
                if not _lacks_files(error):
                    raise
                response = await self._sent_later(method, url, body, headers, left_s)
            return HttpReply(response.status, bytes(await response.bytes()), _Headers(response))
        except (ry.ReqwestError, ValueError, TypeError) as error:
            raise _translated(error, url, timeout_s) from None
        finally:
            self._places.release()

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout_s: float,
        idle_timeout_s: float,
    ) -> AsyncIterator[_Stream]:
        """Send one request and hand over the answer as soon as its headers are here.

        Raises:
            CallError: As `request` does; the pieces raise it too.
        """
        left_s = await self._places.acquire(url, timeout_s)
        try:
            try:
                response = await self._sent_patiently(method, url, body, headers, left_s)
            except (ry.ReqwestError, ValueError, TypeError) as error:
                raise _translated(error, url, timeout_s) from None
            stream = _Stream(response, url, timeout_s, idle_timeout_s)
            try:
                yield stream
            finally:
                await stream.aclose()
        finally:
            self._places.release()

    async def aclose(self) -> None:
        """Close idle connections now, those in use with their request. May be called twice."""
        self._closed = True
        self._plain = self._connect(tls_certs_only=[])
        self._secure = None

    def _sent(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], left_s: float
    ) -> Awaitable[ry.Response]:
        if self._closed:
            raise closed_client(base_of(url))
        if url not in self._urls:
            self._note(url)
        if headers is not self._headers[0]:
            self._headers = (headers, ry.Headers(dict(headers)))
        client = self._secure_client(url) if url.startswith("https:") else self._plain
        return client.fetch(
            url,
            method=method,  # type: ignore[arg-type]  # a str here, a list of literals there
            body=body or b"",  # None is refused
            headers=self._headers[1],
            timeout=_duration(left_s),
        )

    async def _sent_patiently(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], left_s: float
    ) -> ry.Response:
        try:
            return await self._sent(method, url, body, headers, left_s)
        except ry.ReqwestError as error:
            if not _lacks_files(error):
                raise
            return await self._sent_later(method, url, body, headers, left_s)

    async def _sent_later(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], left_s: float
    ) -> ry.Response:
        """This process may open no further file: nothing was sent, and the endpoint is not to blame.

        The request keeps its place, so that fewer are under way, and is sent again when another has ended, or after a
        pause, since the files may not be ours.
        """
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + left_s, _FIRST_PAUSE_S
        while True:
            self._drop_idle(loop.time())
            await self._places.until_one_ends(min(pause_s, max(deadline - loop.time(), 0.0)))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                return await self._sent(method, url, body, headers, max(deadline - loop.time(), 0.001))
            except ry.ReqwestError as error:
                if not _lacks_files(error) or loop.time() >= deadline:
                    raise

    def _drop_idle(self, now: float) -> None:
        """Close idle connections, which hold files; at most every so often."""
        if now >= self._drop_at:
            self._drop_at = now + _LONGEST_PAUSE_S
            self._plain = self._connect(tls_certs_only=[])
            self._secure = None

    def _note(self, url: str) -> None:
        """Keep the number of idle connections bounded as hosts become known."""
        self._urls.add(url)
        self._hosts.add(base_of(url))
        if len(self._hosts) > self._hosts_planned:
            self._hosts_planned = 2 * len(self._hosts)
            self._plain = self._connect(tls_certs_only=[])
            self._secure = None

    def _secure_client(self, url: str) -> ry.Client:
        if self._secure is None:
            try:
                self._secure = self._connect(tls_certs_only=None)
            except ry.ReqwestError:
                problem = "the certificates that this machine trusts cannot be read"
                remedy = "install ca-certificates, or name a file of them in SSL_CERT_FILE"
                raise ConnectError(problem, endpoint=base_of(url), remedy=remedy) from None
        return self._secure

    def _connect(self, *, tls_certs_only: list[ry.Certificate] | None) -> ry.Client:
        return ry.Client(
            user_agent="aurora-swarm",
            connect_timeout=_duration(self._connect_timeout_s),
            redirect=None,
            referer=False,
            brotli=False,
            deflate=False,
            zstd=False,
            hickory_dns=False,  # the system's resolver knows /etc/hosts, NIS and sssd, as clusters use them
            pool_idle_timeout=ry.Duration(IDLE_TIMEOUT_S),
            pool_max_idle_per_host=self._max_idle // self._hosts_planned,
            tls_certs_only=tls_certs_only,
            proxy=ry.Proxy.all("http://127.0.0.1:1", no_proxy=NO_PROXY_AT_ALL),
        )


class _Stream:
    """A body that is still arriving; its own iterator, so that nothing is left to the garbage collector."""

    def __init__(self, response: ry.Response, url: str, timeout_s: float, idle_timeout_s: float) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = _Headers(response)
        self._body = response.bytes_stream()
        self._url = url
        self._timeout_s = timeout_s
        self._idle_timeout_s = idle_timeout_s

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                return bytes(await self._body.__anext__())
        except TimeoutError:
            problem = f"nothing arrived for {self._idle_timeout_s:.3g} s"
            raise AttemptTimeoutError(problem, endpoint=base_of(self._url)) from None
        except ry.ReqwestError as error:
            raise _translated(error, self._url, self._timeout_s) from None

    async def aclose(self) -> None:
        await self._body.close()


class _Headers(Mapping[str, str]):
    """Headers of an answer, read only when somebody looks: most answers' are never looked at."""

    __slots__ = ("_raw", "_response")

    def __init__(self, response: ry.Response) -> None:
        self._response = response
        self._raw: ry.Headers | None = None

    def __getitem__(self, name: str) -> str:
        try:
            value = self._headers().get(name)
        except (ValueError, TypeError):  # bytes that are no text
            value = None
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._headers().keys() if name in self)  # noqa: SIM118 - iterating itself differs

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _headers(self) -> ry.Headers:
        if self._raw is None:
            self._raw = self._response.headers
        return self._raw


@functools.lru_cache(maxsize=1024)
def _duration(seconds: float) -> ry.Duration:
    nanos = int(min(max(seconds, 0.0), 1e9) * 1e9)
    return ry.Duration(nanos // 1_000_000_000, nanos % 1_000_000_000)


def _translated(error: Exception, url: str, timeout_s: float) -> CallError:
    base = base_of(url)
    if not isinstance(error, ry.ReqwestError):
        return ConnectError(f"not a request that can be sent: {error}", endpoint=base, remedy="check the address")
    error.without_url()
    text = str(error)
    if error.is_connect():
        return _connect_error(error, text, base)
    if error.is_timeout():
        return no_whole_answer(base, timeout_s)
    if any(mark in text for mark in _GARBAGE):
        return BadResponseError("the answer is not HTTP", endpoint=base)
    return ConnectionLostError("the connection ended before the answer did", endpoint=base)


def _lacks_files(error: ry.ReqwestError) -> bool:
    """Whether this process, or the system, may open no further file (EMFILE, ENFILE)."""
    return error.is_connect() and "Too many open files" in str(error)


def _connect_error(error: ry.ReqwestError, text: str, base: str) -> ConnectError:
    if "Too many open files" in text:
        return no_files(base)
    if error.is_timeout():
        return not_in_time(base)
    if "dns error" in text:
        return unknown_host(base)
    if "refused" in text:
        return refused(base)
    if "ertificate" in text:
        return ConnectError("its certificate is not trusted", endpoint=base)
    return ConnectError(_last_message(text), endpoint=base)


def _last_message(text: str) -> str:
    """The innermost ``message: "..."`` of reqwest's own description."""
    return text.rpartition('message: "')[2].partition('"')[0][:200] or "no connection"
