"""The tool that fetches a page: `Tool.http_get`."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Coroutine, Hashable, Mapping
from http import HTTPStatus
from typing import Any, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.errors import ToolFailedError
from aurora_swarm.tools.definition import Tool
from aurora_swarm.tools.web.answers import Page
from aurora_swarm.tools.web.fetch import Fetcher, FetchLimits
from aurora_swarm.tools.web.guard import Guard, places_of
from aurora_swarm.tools.web.names import THREADS, Resolve, resolve
from aurora_swarm.tools.web.pages import text_of
from aurora_swarm.tools.web.targets import MAX_URL_CHARS

_SHOWN_OF_A_FAILURE = 300


class GetArguments(BaseModel):
    """Parameters of ``http_get``."""

    model_config = ConfigDict(extra="forbid")
    url: str = Field(
        description="The address of the page, beginning with https:// or http://", max_length=MAX_URL_CHARS
    )


class HttpGetTool(Tool[..., Coroutine[Any, Any, str]]):
    """A tool that fetches pages from the public internet. Use `Tool.http_get`, or copies of it.

    Private networks, this machine, the local link, metadata services of clouds and whatever else is not the public
    internet are refused, also when a name or a redirect leads there, unless they were allowed by name.

    Args:
        guard: What may be reached.
        limits: What one fetch may take.
        find: From a host's name to its addresses.
    """

    def __init__(self, guard: Guard | None = None, limits: FetchLimits | None = None, find: Resolve = resolve) -> None:
        self._limits = limits or FetchLimits()
        self._find = find
        super().__init__(
            http_get,
            name="http_get",
            description="Returns the text of a web page.",
            arguments=GetArguments,
            effect="pure",
            timeout_s=self._limits.timeout_s + 5.0,
            ttl_s=300.0,
        )
        self._guard = guard or Guard()
        self._fetcher = Fetcher(self._guard, self._limits, find)

    def allow(self, *hosts: str) -> Self:
        """A copy that reaches these hosts too, wherever they are: in a private network, or on this machine.

        Args:
            *hosts: Names or addresses as they stand in a URL, each with its port where that is not 80 or 443.

        Raises:
            ToolDefinitionError: One is no host.
        """
        more = self._guard.allowed | places_of(hosts)
        return self._with_guard(msgspec.structs.replace(self._guard, allowed=more))

    def only(self, *hosts: str) -> Self:
        """A copy that reaches no other hosts than these and those that are allowed.

        Args:
            *hosts: As for `allow`; but they must be on the public internet.

        Raises:
            ToolDefinitionError: One is no host.
        """
        return self._with_guard(msgspec.structs.replace(self._guard, only=places_of(hosts)))

    def call_arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's URL, and what fetches it."""
        return {**values, "fetcher": self._fetcher}

    def identity(self) -> Hashable:
        """What may be reached, too: what one agent was allowed to fetch is no answer for another."""
        return self.name, self._guard, self._find, self.max_chars, self.max_tokens

    def determinant(self) -> bytes:
        """What determines an answer; what may be reached, too."""
        only = None if self._guard.only is None else sorted(self._guard.only)
        return super().determinant() + msgspec.json.encode([sorted(self._guard.allowed), only])

    def _with_guard(self, guard: Guard) -> Self:
        copied = copy.copy(self)
        copied.__dict__.update(_guard=guard, _fetcher=Fetcher(guard, self._limits, self._find))
        return copied


async def http_get(url: str, fetcher: Fetcher) -> str:
    """The text of a page.

    Args:
        url: Where.
        fetcher: Fetches it.

    Raises:
        RefusedUrlError: It may not be reached.
        ToolFailedError: There is no such page, it is no text, or it did not come.
    """
    page = await fetcher.get(url, {})
    # On a thread: a page of two million characters must not hold up every agent.
    text = await asyncio.get_running_loop().run_in_executor(THREADS, _shown, page)
    if page.status >= 300:
        raise ToolFailedError(f"{described(page.status)}: {text[:_SHOWN_OF_A_FAILURE]}".rstrip(": "))
    return f"{text}\n[cut after {len(page.body)} bytes]" if page.is_cut else text


def _shown(page: Page) -> str:
    try:
        return text_of(page)
    except ToolFailedError:
        if page.status < 300:
            raise
        return ""


def described(status: int) -> str:
    """A status as it is usually written: ``404 Not Found``."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


HTTP_GET = HttpGetTool()
