"""Asks in a browser: a page on this machine that lists the open questions."""

from __future__ import annotations

import importlib.util
import secrets
from contextlib import AsyncExitStack
from typing import Self

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.human.desk import Desk
from aurora_swarm.swarms.human.questions import Answer, Question

_HOST = "127.0.0.1"


class WebForm:
    """Asks on a page of a small server on 127.0.0.1, for as long as it is entered (``async with``).

    Whoever has `url` may answer; it holds a token, which the browser then keeps as a cookie. Questions come and go
    while the page is open; without JavaScript it has to be loaded again. Any number of browsers may look; the first
    valid answer wins.

    Args:
        port: Where it listens; 0 for any port that is free.
        token: What `url` proves itself by; made up when empty.
        title: Heading of the page.

    Raises:
        UsageError: Entered where the port is taken, or without the web server that it needs.

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
        if importlib.util.find_spec("starlette") is None or importlib.util.find_spec("uvicorn") is None:
            raise UsageError("a web form needs a web server", remedy="pip install 'aurora-swarm[dashboard]'")
        from aurora_swarm.swarms.human.serving import bound, served  # noqa: PLC0415 - imported only when it is chosen
        from aurora_swarm.swarms.human.site import Site  # noqa: PLC0415

        listening = bound(_HOST, self._port)
        port = listening.getsockname()[1]
        site = Site(self.desk, self._title)
        app = site.guarded(token=self._token, cookie=f"aurora_swarm_{port}")
        await self._stack.enter_async_context(served(app, listening))
        self._stack.callback(site.end)
        self._url = f"http://{_HOST}:{port}/?token={self._token}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._url = ""
        self.desk.shut()
        await self._stack.aclose()
