"""Fetching a URL: what is connected to is the address that was looked at, and nothing is taken on trust."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urljoin

import msgspec

from aurora_swarm.errors import ToolFailedError
from aurora_swarm.tools.web.addresses import Address
from aurora_swarm.tools.web.answers import MAX_HEAD_BYTES, Page, read_page
from aurora_swarm.tools.web.guard import Guard
from aurora_swarm.tools.web.names import THREADS, Resolve, resolve
from aurora_swarm.tools.web.targets import Target, target_of

_PAUSE_S = 0.05
"""Between two tries to open a socket where the process may open no further file."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class FetchLimits(msgspec.Struct, frozen=True):
    """What one fetch may take.

    Args:
        timeout_s: Seconds from the first look-up to the last byte, redirects included.
        connect_timeout_s: Seconds to connect to one address.
        max_bytes: Bytes of the body that are read, after decompression; the rest is left.
        max_redirects: Redirects that are followed.
    """

    timeout_s: float = 20.0
    connect_timeout_s: float = 5.0
    max_bytes: int = 2_000_000
    max_redirects: int = 5


class Fetcher:
    """Fetches URLs, for as many callers as there are; keeps no connection, no cookie, no cache.

    No proxy is taken from the environment, and no credentials: neither from it nor from a URL.

    Args:
        guard: What may be reached; asked again for every redirect.
        limits: What one fetch may take.
        find: From a host's name to its addresses.
    """

    def __init__(self, guard: Guard, limits: FetchLimits, find: Resolve = resolve) -> None:
        self._guard = guard
        self._limits = limits
        self._find = find

    async def get(self, url: str, headers: Mapping[str, str]) -> Page:
        """Fetch a URL.

        Args:
            url: http or https.
            headers: Sent along; to the first host only.

        Returns:
            The answer, whatever its status.

        Raises:
            RefusedUrlError: It, or what it redirects to, may not be reached.
            ToolFailedError: No whole answer came in time.
        """
        clock = asyncio.timeout(self._limits.timeout_s)
        try:
            async with clock:
                return await self._followed(target_of(url), headers)
        except TimeoutError:
            if not clock.expired():
                raise
            raise ToolFailedError(f"no whole answer within {self._limits.timeout_s:g} s") from None

    async def _followed(self, target: Target, headers: Mapping[str, str]) -> Page:
        for _ in range(self._limits.max_redirects + 1):
            page = await self._page(target, headers)
            where = page.headers.get("location", "")
            if page.status not in _REDIRECTS or not where:
                return page
            following = target_of(urljoin(target.url, where))
            if (following.scheme, following.host, following.port) != (target.scheme, target.host, target.port):
                headers = {}
            target = following
        raise ToolFailedError(f"it was redirected more than {self._limits.max_redirects} times")

    async def _page(self, target: Target, headers: Mapping[str, str]) -> Page:
        addresses = await self._guard.addresses(target, self._find)
        reader, writer = await self._connected(target, addresses)
        try:
            writer.write(_request(target, headers))
            return await read_page(reader, self._limits.max_bytes)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            raise ToolFailedError(f"{target.place} sent no whole answer") from None
        finally:
            writer.transport.abort()

    async def _connected(
        self, target: Target, addresses: Sequence[Address]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        problem = "it has no address"
        for address in addresses:
            try:
                sock = await _socket(address)
                async with asyncio.timeout(self._limits.connect_timeout_s):
                    return await _open(sock, target, address)
            except ssl.SSLError as error:
                problem = f"its certificate or its TLS is not to be trusted ({error.reason or 'no reason given'})"
            except TimeoutError:
                problem = "no connection in time"
            except OSError as error:
                problem = os.strerror(error.errno).lower() if error.errno else "no connection"
        raise ToolFailedError(f"{target.place} cannot be reached: {problem}")


async def _socket(address: Address) -> socket.socket:
    """A socket, as soon as this process may open one: with few files there are fewer connections, not failures."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    while True:
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            # Whoever holds the files need not be one of us, so there is nobody to be woken by.
            await asyncio.sleep(_PAUSE_S)
        else:
            sock.setblocking(False)
            return sock


async def _open(
    sock: socket.socket, target: Target, address: Address
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to this very address; the name is only for the certificate."""
    loop = asyncio.get_running_loop()
    try:
        context = await loop.run_in_executor(THREADS, tls_context) if target.scheme == "https" else None
        await loop.sock_connect(sock, (str(address), target.port))
        name = target.host if context else None
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name, limit=MAX_HEAD_BYTES)
    except BaseException:
        sock.close()
        raise


@functools.cache
def tls_context() -> ssl.SSLContext:
    """What this machine trusts; reading it takes a while, so it is read once."""
    return ssl.create_default_context()


def _request(target: Target, headers: Mapping[str, str]) -> bytes:
    lines = {
        "Host": target.place,
        "User-Agent": "aurora-swarm",
        "Accept": "text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET {target.path} HTTP/1.1\r\n{head}\r\n".encode("ascii")
