"""The tool that searches the web: `Tool.web_search`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Coroutine, Hashable, Mapping
from typing import Any, Self
from urllib.parse import quote

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.errors import ToolDefinitionError, ToolFailedError
from aurora_swarm.tools.definition import Tool
from aurora_swarm.tools.refusal import RefusedError
from aurora_swarm.tools.web.answers import Page
from aurora_swarm.tools.web.fetch import Fetcher, FetchLimits
from aurora_swarm.tools.web.guard import Guard
from aurora_swarm.tools.web.http_get import described
from aurora_swarm.tools.web.providers import PROVIDERS, Provider, endpoint, provider_of, results_of

# A redirect is not followed: the key is meant for nobody else.
_LIMITS = FetchLimits(max_redirects=0)
_SHORTEST_SECRET = 4


class SearchArguments(BaseModel):
    """Parameters of ``web_search``."""

    model_config = ConfigDict(extra="forbid")
    query: str = Field(description="What to look for.", min_length=1, max_length=400)


class SearchTool(Tool[..., Coroutine[Any, Any, str]]):
    """A tool that searches the web. Use `Tool.web_search`, or copies of it.

    It asks the endpoint that ``AURORA_SWARM_SEARCH_URL`` names, else Brave (``BRAVE_API_KEY``), else SerpAPI
    (``SERPAPI_API_KEY``). Keys come from the environment only, and are in no answer, error or statistic. Whether
    there is somebody to ask is seen when a run begins, not when the tool is named.

    Args:
        provider: Who is asked; None for whom the environment names.
        results: Results that the model is shown.
        rate_limit: Searches per second at most.
    """

    def __init__(self, provider: Provider | None = None, *, results: int = 5, rate_limit: float | None = None) -> None:
        super().__init__(
            web_search,
            name="web_search",
            description="Searches the web. Returns titles, addresses and short texts of pages.",
            arguments=SearchArguments,
            effect="pure",
            rate_limit=rate_limit,
            timeout_s=_LIMITS.timeout_s + 5.0,
            ttl_s=900.0,
        )
        if results < 1:
            raise ToolDefinitionError(f"web_search: results is {results}", remedy="give a number above 0")
        self._provider = provider
        self._results = results

    def on(self, url: str, *, results: int | None = None, rate_limit: float | None = None) -> Self:
        """A copy that asks a search endpoint of yours, which may be in a private network.

        It answers in JSON as SearXNG, Brave or SerpAPI do, or with a list of objects that have ``title``, ``url`` and
        ``description``. Where ``AURORA_SWARM_SEARCH_KEY`` is set, it is sent as a bearer token, or in place of
        ``{key}``.

        Args:
            url: Its address with ``{query}`` in it, and ``{count}`` where it takes one.
            results: Results that the model is shown; as before when None.
            rate_limit: Searches per second at most; as before when None.

        Raises:
            ToolDefinitionError: It is no address, or has no place for the query.
        """
        return self._changed(endpoint(url), results, rate_limit)

    def using(self, provider: str, *, results: int | None = None, rate_limit: float | None = None) -> Self:
        """A copy that asks this provider, whatever else the environment names.

        Args:
            provider: ``brave`` or ``serpapi``.
            results: Results that the model is shown; as before when None.
            rate_limit: Searches per second at most; as before when None.

        Raises:
            ToolDefinitionError: There is no such provider.
        """
        if provider not in PROVIDERS:
            remedy = f"there are {' and '.join(PROVIDERS)}; for another, give its address to Tool.web_search.on"
            raise ToolDefinitionError(f"web_search knows no provider {provider[:40]!r}", remedy=remedy)
        return self._changed(PROVIDERS[provider], results, rate_limit)

    def asking(self, *, results: int | None = None, rate_limit: float | None = None) -> Self:
        """A copy that asks for more or fewer results, more or less often.

        Args:
            results: Results that the model is shown; as before when None.
            rate_limit: Searches per second at most; as before when None.

        Raises:
            ToolDefinitionError: A number is not above 0.
        """
        return self._changed(self._provider, results, rate_limit)

    def call_arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's query, and who is asked.

        Raises:
            ToolDefinitionError: Nobody can be asked.
        """
        provider = self._provider or provider_of(os.environ)
        return {**values, "provider": provider, "key": provider.key(os.environ), "results": self._results}

    def identity(self) -> Hashable:
        """Who is asked, and for how much."""
        return self.name, self._provider, self._results, self.max_chars, self.max_tokens

    def determinant(self) -> bytes:
        """What determines an answer: who is asked, too, but not with which key.

        Raises:
            ToolDefinitionError: Nobody can be asked: the environment names no provider, or its key is missing.
        """
        provider = self._provider or provider_of(os.environ)
        provider.key(os.environ)
        # Hashed, because somebody may write a key into an address.
        return super().determinant() + hashlib.sha256(f"{provider.url} {self._results}".encode()).digest()

    def _changed(self, provider: Provider | None, results: int | None, rate_limit: float | None) -> Self:
        shown = self._results if results is None else results
        rate = self.rate_limit if rate_limit is None else rate_limit
        made = type(self)(provider, results=shown, rate_limit=rate)
        made.grants, made.parameters = dict(self.grants), self.parameters
        return made.showing(max_chars=self.max_chars, max_tokens=self.max_tokens)


async def web_search(query: str, provider: Provider, key: str, results: int) -> str:
    """Search the web.

    Args:
        query: What to look for.
        provider: Who is asked.
        key: Theirs.
        results: Results at most.

    Raises:
        ToolFailedError: They gave no answer; the key is nowhere in it.
    """
    where = provider.target()
    guard = Guard() if provider in PROVIDERS.values() else Guard(allowed=frozenset({where.place}))
    try:
        page = await Fetcher(guard, _LIMITS).get(provider.address(query, results, key), provider.headers(key))
        return _without(key, _results(page, provider, results))
    except (ToolFailedError, RefusedError) as error:
        raise ToolFailedError(_without(key, str(error))) from None


def _results(page: Page, provider: Provider, results: int) -> str:
    if page.status >= 300:
        raise ToolFailedError(f"{provider.name} answered {described(page.status)}")
    return results_of(page.body, results)


def _without(key: str, text: str) -> str:
    """A text without a key, however it was written there: a server may repeat what it was sent."""
    if len(key) < _SHORTEST_SECRET:
        return text
    for secret in {key, quote(key, safe=""), msgspec.json.encode(key).decode()[1:-1]}:
        text = text.replace(secret, "***")
    return text


WEB_SEARCH = SearchTool()
