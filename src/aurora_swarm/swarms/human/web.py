"""Asks in a browser: a page on this machine that lists the open questions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from importlib.resources import files
from typing import Self
from urllib.parse import parse_qs, quote

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.human.desk import Desk
from aurora_swarm.swarms.human.guard import Guard
from aurora_swarm.swarms.human.pages import MOST_DONE, Tried, page, page_state
from aurora_swarm.swarms.human.questions import Answer, Question
from aurora_swarm.swarms.human.serving import bound, served

_HOST = "127.0.0.1"
_SETTLE_S = 0.05
"""Changes that come together are shown together."""

_KEEP_ALIVE_S = 15.0
_MOST_BODY = 65_536
_STATUS = {"accepted": 200, "invalid": 422, "unknown": 404}
_REFUSED = 409


class WebForm:
    """Asks on a page of a small server on 127.0.0.1, for as long as it is entered (``async with``).

    Whoever has `url` may answer; it holds a token, which the browser then keeps as a cookie. Questions come and go
    while the page is open; without JavaScript it has to be loaded again. Any number of browsers may look; the first
    valid answer wins.

    Args:
        port: Where it listens; 0 for any port that is free.
        token: What `url` proves itself by; made up when empty.
        title: Heading of the page.

    Attributes:
        desk: The open questions.
    """

    def __init__(self, *, port: int = 0, token: str = "", title: str = "Questions from your workers") -> None:
        self.desk = Desk()
        self._port = port
        self._token = token or secrets.token_urlsafe(24)
        self._title = title
        self._url = ""
        self._stack = AsyncExitStack()

    @property
    def url(self) -> str:
        """The address to open, token included.

        Raises:
            UsageError: The form is not open.
        """
        if not self._url:
            raise UsageError("the form has no address yet", remedy="enter it: async with WebForm() as form")
        return self._url

    async def ask(self, question: Question) -> Answer:
        """As `aurora_swarm.swarms.human.port.Human.ask`."""
        return await self.desk.ask(question)

    async def __aenter__(self) -> Self:
        listening = bound(_HOST, self._port)
        port = listening.getsockname()[1]
        site = _Site(self.desk, self._title)
        app = Starlette(routes=site.routes())
        app.add_middleware(Guard, token=self._token, cookie=f"aurora_swarm_{port}")
        await self._stack.enter_async_context(served(app, listening))
        self._stack.callback(site.end)
        self._url = f"http://{_HOST}:{port}/?token={self._token}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._url = ""
        self.desk.shut()
        await self._stack.aclose()


class _Site:
    """What the server answers to who may ask it."""

    def __init__(self, desk: Desk, title: str) -> None:
        self._desk = desk
        self._title = title
        self._ended = False
        self._files = {name: files(__package__).joinpath("page", name).read_bytes() for name in ("form.css", "form.js")}

    def routes(self) -> list[Route]:
        return [
            Route("/", self._look),
            Route("/answer", self._answer, methods=["POST"]),
            Route("/events", self._events),
            Route("/form.css", self._file("form.css", "text/css")),
            Route("/form.js", self._file("form.js", "text/javascript")),
        ]

    def end(self) -> None:
        """Tell open pages that there is nothing more to come."""
        self._ended = True

    async def _look(self, request: Request) -> Response:
        said = self._desk.receipt(request.query_params.get("said", ""))
        return self._page("Thank you. The worker goes on with your answer." if said.state == "answered" else "")

    async def _answer(self, request: Request) -> Response:
        fields = await _fields(request)
        if fields is None:
            return self._page("This is more than an answer may hold.", status=413)
        id, given = fields.get("id", ""), fields.get("answer", "")  # noqa: A001 - as the desk calls it
        receipt = self._desk.submit(id, given)
        status = _STATUS.get(receipt.state, _REFUSED)
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(msgspec.structs.asdict(receipt), status_code=status)
        if receipt.ok:
            return RedirectResponse(f"/?said={quote(id)}", status_code=303)
        if receipt.state == "invalid":
            return self._page("", Tried(id, given, receipt.text), status=status)
        return self._page(receipt.text, status=status)

    async def _events(self, request: Request) -> Response:
        del request
        return StreamingResponse(self._changes(), media_type="text/event-stream")

    async def _changes(self) -> AsyncIterator[bytes]:
        """What the page shows, now and whenever it changes."""
        seen = -1
        while not self._ended:
            seen, line = await self._next(seen)
            yield line
            await asyncio.sleep(_SETTLE_S)
        yield b"event: end\ndata: {}\n\n"

    async def _next(self, seen: int) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(_KEEP_ALIVE_S):
                seen = await self._desk.changed(seen)
        except TimeoutError:
            return seen, b": still here\n\n"
        state = page_state(self._desk.questions(), self._desk.closed(MOST_DONE))
        return seen, b"event: state\ndata: " + msgspec.json.encode(state) + b"\n\n"

    def _page(self, notice: str, tried: Tried | None = None, *, status: int = 200) -> Response:
        desk = self._desk
        text = page(self._title, desk.questions(), desk.closed(MOST_DONE), notice=notice, tried=tried)
        return HTMLResponse(text.encode("utf-8", "replace"), status_code=status)

    def _file(self, name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
        async def send(request: Request) -> Response:
            del request
            return Response(self._files[name], media_type=media_type)

        return send


async def _fields(request: Request) -> dict[str, str] | None:
    """The fields of a form; None when there is too much of them."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_BODY:
            return None
    try:
        found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        return None
    return {name: values[-1] for name, values in found.items()}
