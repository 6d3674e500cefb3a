"""Lets nobody to a page on this machine but who was given its address."""

from __future__ import annotations

import hmac
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aurora_swarm.swarms.human.pages import refusal_page

_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_SAFE = frozenset({"GET", "HEAD"})
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


class Guard:
    """Stands before an application.

    A request must name this machine as its host, so that no foreign name leads here (DNS rebinding). What changes
    something must come from a page of ours. The token must have been shown once, in the address; then it is a cookie.

    Args:
        app: What is guarded.
        token: What is to be shown.
        cookie: Name of the cookie.
    """

    def __init__(self, app: ASGIApp, *, token: str, cookie: str) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it pass."""
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._answer(scope)
        await (self._app if answer is None else answer)(scope, receive, guarded)

    def _answer(self, scope: Scope) -> Response | None:
        """What is said instead of an answer; None to let the request pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if _name(host) not in _NAMES:
            return _refused("This page is for this machine only: open it under 127.0.0.1.", 421)
        if scope["method"] not in _SAFE and headers.get("origin") != f"{scope['scheme']}://{host}":
            return _refused("Answers are taken from the page itself only.", 403)
        shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and shown and self._is_token(shown):
            return self._welcome()
        if not self._is_token(_cookie(headers, self._cookie)):
            return _refused("Open the whole address that the program printed: it ends in a token.", 403)
        return None

    def _welcome(self) -> Response:
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        return answer

    def _is_token(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode("utf-8", "replace"), self._token.encode())


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _cookie(headers: Headers, name: str) -> str:
    for line in headers.getlist("cookie"):
        morsel = SimpleCookie(line).get(name)
        if morsel is not None:
            return morsel.value
    return ""


def _refused(text: str, status: int) -> Response:
    return HTMLResponse(refusal_page(text), status_code=status)
