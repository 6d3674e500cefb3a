"""Requests to an endpoint's paths, with the headers that all share; any status outside of 2xx is an error."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from aurora_swarm.errors import CallError, UsageError
from aurora_swarm.ports.http import Http, HttpReply, HttpStream
from aurora_swarm.transports.status import error_from
from aurora_swarm.values.endpoint import AgentEndpoint

ABSENT = (404, 405, 501)
"""Statuses by which a server says that it has no such path or method."""

_MOST_URLS = 65_536
"""URLs remembered."""


class Requests:
    """What goes over one `Http` for one key.

    Args:
        http: Carries the bytes.
        api_key: Bearer token; replaced by ``***`` wherever a server's words repeat it.
        headers: Further headers of every request.
        key_header: Where the key goes; as a bearer token into ``authorization``, as it is into any other.

    Raises:
        UsageError: A header holds what a header cannot.
    """

    def __init__(
        self, http: Http, *, api_key: str | None, headers: Mapping[str, str], key_header: str = "authorization"
    ) -> None:
        self.http = http
        self.headers = _checked_headers(api_key, headers, key_header)
        self._secrets = tuple(filter(None, (api_key,)))
        self._urls: dict[tuple[int, str], str] = {}
        self._placed: list[AgentEndpoint] = []

    async def post(self, endpoint: AgentEndpoint, path: str, body: bytes, timeout_s: float) -> bytes:
        """The body of a 2xx answer.

        Raises:
            CallError: Any other answer, or none.
        """
        url = self.url(endpoint, path)
        return body_of(await self.http.request("POST", url, body=body, headers=self.headers, timeout_s=timeout_s))

    async def get(self, endpoint: AgentEndpoint, path: str, timeout_s: float) -> HttpReply | None:
        """A path's answer, or None where the server has no such path.

        Raises:
            CallError: Any other answer outside of 2xx, or none.
        """
        reply = await self.look_at(endpoint, path, timeout_s)
        if reply.status in ABSENT:
            return None
        body_of(reply)
        return reply

    async def look_at(self, endpoint: AgentEndpoint, path: str, timeout_s: float) -> HttpReply:
        """A path's answer, whatever its status."""
        return await self.http.request("GET", endpoint.url + path, body=None, headers=self.headers, timeout_s=timeout_s)

    def stream(
        self, endpoint: AgentEndpoint, path: str, body: bytes, *, timeout_s: float, idle_timeout_s: float
    ) -> AbstractAsyncContextManager[HttpStream]:
        """An answer that is read as it arrives; its status is the reader's business, see `raise_for_status`."""
        return self.http.stream(
            "POST",
            endpoint.url + path,
            body=body,
            headers=self.headers,
            timeout_s=timeout_s,
            idle_timeout_s=min(idle_timeout_s, timeout_s),
        )

    def url(self, endpoint: AgentEndpoint, path: str) -> str:
        """Where to post; remembered, with the endpoint itself, so that its identity stays its own."""
        known = self._urls.get((id(endpoint), path))
        if known is not None:
            return known
        if len(self._urls) >= _MOST_URLS:
            self._urls.clear()
            self._placed.clear()
        self._placed.append(endpoint)
        url = self._urls[id(endpoint), path] = endpoint.url + path
        return url

    def place(self, error: CallError, endpoint: AgentEndpoint) -> None:
        """Write into an error whose it is, and take secrets out of it."""
        error.endpoint = endpoint.url
        for secret in self._secrets:
            error.problem = _without(secret, error.problem)
        error.args = (error.problem,)


def body_of(reply: HttpReply) -> bytes:
    """The body of a 2xx answer; anything else raises the error that it is."""
    if not 200 <= reply.status < 300:
        raise error_from(reply.status, reply.headers, reply.body, now=time.time())
    return reply.body


async def raise_for_status(stream: HttpStream) -> None:
    """Raise the error that a stream's status outside of 2xx is."""
    if not 200 <= stream.status < 300:
        body = b"".join([chunk async for chunk in stream.chunks()])
        raise error_from(stream.status, stream.headers, body, now=time.time())


def now_s() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


def _without(secret: str, text: str) -> str:
    """`text` without the secret, and without its beginning where a long message was cut within it."""
    text = text.replace(secret, "***")
    for length in range(len(secret) - 1, 3, -1):
        if text.endswith(secret[:length] + "..."):
            return text.removesuffix(secret[:length] + "...") + "***..."
    return text


def _checked_headers(api_key: str | None, headers: Mapping[str, str], key_header: str) -> dict[str, str]:
    """All headers of a request.

    Raises:
        UsageError: One holds a line break, or characters beyond ASCII. Its value is not repeated.
    """
    merged = {"content-type": "application/json", **{name.lower(): value for name, value in headers.items()}}
    if api_key:
        merged[key_header] = f"Bearer {api_key}" if key_header == "authorization" else api_key
    for name, value in merged.items():
        if not (value.isascii() and value.isprintable()):
            what = "the API key" if name == key_header else f"the header {name}"
            raise UsageError(f"{what} holds characters that no header can carry", remedy="check it for line breaks")
    return merged
