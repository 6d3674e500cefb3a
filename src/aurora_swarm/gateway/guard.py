"""Who may ask a server of ours what: the host that was meant, the page it came from, the token, the size."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from aurora_swarm.errors import UsageError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

GONE = "aurora_swarm.gone"
"""Key of a request's scope: an event that is set once whoever asked has left, where the application listens for it."""

MAX_BODY = 16 * 1024 * 1024
"""Bytes of a request."""


def check_exposure(host: str, token: str | None) -> None:
    """Make sure that what others can reach asks for a token.

    Args:
        host: What the server binds to.
        token: What it asks for.

    Raises:
        UsageError: It asks for none, and is bound to more than this machine; or the token is empty.
    """
    if token is not None and not token.strip():
        raise UsageError("the token is empty", remedy="give a long random one, or none on 127.0.0.1")
    if host not in LOOPBACK and token is None:
        raise UsageError(
            f"{host} can be reached from elsewhere, and no token is asked for",
            remedy="give token=..., or bind to 127.0.0.1",
        )


class Guard:
    """An ASGI application that lets through what may pass, and answers the rest itself.

    Args:
        app: What is guarded.
        hosts: Names that a request may be meant for; a page that was tricked into asking names another.
        token: What a request must bear; None for nothing.
        open_paths: What may be read without the token.
        max_body: Bytes of a request.
    """

    def __init__(
        self,
        app: App,
        *,
        hosts: Collection[str],
        token: str | None = None,
        open_paths: Collection[str] = (),
        max_body: int = MAX_BODY,
    ) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._token = token
        self._open_paths = frozenset(open_paths)
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if refusal is None:
            gone = scope[GONE] = asyncio.Event()
            await self._app(scope, _Watched(receive, self._max_body, gone), send)
            return
        status, reason = refusal
        lines = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        if status == 401:
            lines.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": reason.encode()})

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        host = _hostname(b"http://" + headers.get(b"host", b""))
        if host not in self._hosts:
            return 421, "This server does not answer for that host."
        origin = headers.get(b"origin")
        if origin is not None and _hostname(origin) not in self._hosts:
            return 403, "Pages of other sites may not ask here."
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_body:
            return 413, f"A request may have {self._max_body} bytes."
        if path not in self._open_paths and not self._has_token(headers):
            return 401, "A bearer token is asked for, and this is none or another."
        return None

    def _has_token(self, headers: dict[bytes, bytes]) -> bool:
        if self._token is None:
            return True
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and secrets.compare_digest(given.strip(), self._token.encode())


class _Watched:
    """What a request brings, up to a number of bytes; what brings more has left, as far as the application knows."""

    def __init__(self, receive: Receive, room: int, gone: asyncio.Event) -> None:
        self._receive = receive
        self._room = room
        self._gone = gone

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._room -= len(message.get("body", b""))
        if self._room < 0 or message["type"] == "http.disconnect":
            self._gone.set()
            return {"type": "http.disconnect"}
        return message


def _hostname(url: bytes) -> str:
    try:
        return (urlsplit(url.decode("ascii")).hostname or "").lower()
    except ValueError:
        return ""
