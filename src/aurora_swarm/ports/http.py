"""The seam to the network: bytes out, bytes in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec


class HttpReply(msgspec.Struct, frozen=True):
    """A whole HTTP answer.

    Args:
        status: Status code.
        body: Decompressed body.
        headers: Names in lower case.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]


class HttpStream(Protocol):
    """An HTTP answer whose body is still arriving.

    Attributes:
        status: Status code.
        headers: Names in lower case.
    """

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, in pieces of any size.

        Raises:
            ConnectionLostError: The connection ended before the body did.
            AttemptTimeoutError: `idle_timeout_s` or `timeout_s` passed.
        """
        ...


class Http(Protocol):
    """An HTTP client.

    Contract, held by one suite for every adapter (`aurora_swarm.testing.http_contract`):

    * Every failure is a `ConnectError`, `ConnectionLostError`, `AttemptTimeoutError` or `BadResponseError`
      that names the endpoint's URL without credentials; statuses are not errors here.
    * Cancelling the awaiting task closes the connection within 100 ms, so that the server stops generating.
    * `timeout_s` bounds everything from sending to the last byte.
    * No proxy is taken from the environment, no redirect is followed, no cookie is kept.
    * After `aclose` every further use raises `ConnectError`; a process may also exit without it.
    """

    async def request(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> HttpReply:
        """Send one request and read its whole answer."""
        ...

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

        Leaving the context closes the connection, read to the end or not. `idle_timeout_s` is the longest
        silence allowed between two pieces of the body.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. May be called twice."""
        ...
