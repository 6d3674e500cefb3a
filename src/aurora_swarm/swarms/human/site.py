"""The pages of the web form: what is shown, what is taken, and how an open page hears of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from urllib.parse import parse_qs, quote

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from aurora_swarm.swarms.human.desk import Desk
from aurora_swarm.swarms.human.guard import Guard
from aurora_swarm.swarms.human.pages import MOST_DONE, Tried, page, page_state

_SETTLE_S = 0.05
"""Changes that come together are shown together."""

_KEEP_ALIVE_S = 15.0
_MOST_BODY = 65_536
_STATUS = {"accepted": 200, "invalid": 422, "unknown": 404}
_REFUSED = 409


class Site:
    """What the server answers to who may ask it.

    Args:
        desk: The questions.
        title: Heading of the page.
    """

    def __init__(self, desk: Desk, title: str) -> None:
        self._desk = desk
        self._title = title
        self._ended = False
        self._files = {name: files(__package__).joinpath("page", name).read_bytes() for name in ("form.css", "form.js")}

    def guarded(self, *, token: str, cookie: str) -> Starlette:
        """The application, for those who show the token.

        Args:
            token: What is to be shown once.
            cookie: Name of the cookie that is shown from then on.
        """
        app = Starlette(routes=self._routes())
        app.add_middleware(Guard, token=token, cookie=cookie)
        return app

    def _routes(self) -> list[Route]:
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
