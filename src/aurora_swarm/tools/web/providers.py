"""Who is asked when the web is searched, and how their answers are read. Pure: told the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from aurora_swarm.errors import TemplateError, ToolDefinitionError, ToolFailedError
from aurora_swarm.inputs.template import Template
from aurora_swarm.tools.web.pages import readable
from aurora_swarm.tools.web.targets import RefusedUrlError, Target, target_of

ENDPOINT_VARIABLE = "AURORA_SWARM_SEARCH_URL"
ENDPOINT_KEY_VARIABLE = "AURORA_SWARM_SEARCH_KEY"

_WHAT_TO_SET = (
    f"set BRAVE_API_KEY or SERPAPI_API_KEY, or {ENDPOINT_VARIABLE} to the address of a search endpoint of yours, with "
    "{query} in it; or give Tool.web_search.on('https://.../search?q={query}')"
)
_TITLES, _PLACES, _TEXTS = ("title", "name"), ("url", "link"), ("description", "snippet", "content", "text")


class Provider(msgspec.Struct, frozen=True):
    """A search endpoint.

    Args:
        name: For errors.
        url: Its address; ``{query}`` and ``{count}`` are filled in, and ``{key}`` where it takes its key there.
        variable: The environment variable that holds its key; empty when it has none.
        header: The header that carries its key; empty when the address does.
        is_key_needed: Whether it answers nobody without a key.
    """

    name: str
    url: str
    variable: str = ""
    header: str = ""
    is_key_needed: bool = True

    def key(self, environ: Mapping[str, str]) -> str:
        """Its key; empty where it needs none.

        Raises:
            ToolDefinitionError: It needs one and there is none, or no header can carry it; the key is not shown.
        """
        key = environ.get(self.variable, "").strip() if self.variable else ""
        if not key and self.is_key_needed:
            raise ToolDefinitionError(f"web_search has no key for {self.name}", remedy=f"set {self.variable}")
        if not (key.isascii() and key.isprintable()):
            raise ToolDefinitionError(f"{self.variable} holds no key", remedy="a key is printable ASCII, on one line")
        return key

    def address(self, query: str, count: int, key: str) -> str:
        """The address to ask."""
        values = {"query": quote(query, safe=""), "count": str(count), "key": quote(key, safe="")}
        return Template(self.url, self.name).render(values)

    def headers(self, key: str) -> dict[str, str]:
        """What to send along."""
        if not self.header or not key:
            return {}
        return {self.header: f"Bearer {key}" if self.header == "Authorization" else key}

    def target(self) -> Target:
        """Where it is."""
        return target_of(self.address("query", 1, ""))


PROVIDERS = {
    "brave": Provider(
        "Brave Search",
        "https://api.search.brave.com/res/v1/web/search?q={query}&count={count}",
        "BRAVE_API_KEY",
        "X-Subscription-Token",
    ),
    # Takes its key in the address only.
    "serpapi": Provider(
        "SerpAPI",
        "https://serpapi.com/search.json?engine=google&q={query}&num={count}&api_key={key}",
        "SERPAPI_API_KEY",
    ),
}


def endpoint(url: str) -> Provider:
    """A search endpoint of the user's.

    Raises:
        ToolDefinitionError: It is no address, or has no place for the query. It is not shown: it may hold a key.
    """
    remedy = "write for example https://search.example/search?format=json&q={query}"
    provider = Provider("the search endpoint", url, ENDPOINT_KEY_VARIABLE, "Authorization", is_key_needed=False)
    try:
        fields = Template(url, "endpoint").fields
        if "query" not in fields or fields - {"query", "count", "key"}:
            raise ToolDefinitionError(
                "the search endpoint must hold {query}, and may hold {count} and {key}", remedy=remedy
            )
        provider.target()
    except (TemplateError, RefusedUrlError):
        raise ToolDefinitionError("the search endpoint is no address of http or https", remedy=remedy) from None
    return msgspec.structs.replace(provider, header="") if "key" in fields else provider


def provider_of(environ: Mapping[str, str]) -> Provider:
    """The provider that the environment names: an endpoint first, then Brave, then SerpAPI.

    Raises:
        ToolDefinitionError: It names none.
    """
    if url := environ.get(ENDPOINT_VARIABLE, "").strip():
        return endpoint(url)
    for provider in PROVIDERS.values():
        if environ.get(provider.variable, "").strip():
            return provider
    raise ToolDefinitionError("web_search has nobody to ask", remedy=_WHAT_TO_SET)


def results_of(body: bytes, count: int) -> str:
    """What was found, numbered: title, address and text of each.

    Args:
        body: JSON as Brave, SerpAPI or SearXNG write it, or a list of objects with a title, a url and a text.
        count: Results at most.

    Raises:
        ToolFailedError: It is none of these.
    """
    try:
        found = _found(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ToolFailedError("the answer is not JSON") from None
    shown = (_shown(result) for result in found if isinstance(result, dict))
    numbered = (f"{number}. {text}" for number, text in zip(range(1, count + 1), filter(None, shown), strict=False))
    return "\n\n".join(numbered) or "nothing was found"


def _found(value: Any) -> list[Any]:
    places = list(_places(value))
    for place in places:
        if isinstance(place, list):
            return place
    # Brave leaves the part out, and SerpAPI says so in words, when nothing was found.
    if isinstance(value, dict) and (value.get("type") == "search" or "search_metadata" in value):
        return []
    raise ToolFailedError("the answer holds no list of results")


def _places(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        web = value.get("web")
        yield web.get("results") if isinstance(web, dict) else None
        yield value.get("organic_results")
        yield value.get("results")


def _shown(result: Mapping[str, Any]) -> str:
    lines = (_first(result, names) for names in (_TITLES, _PLACES, _TEXTS))
    return "\n".join(line for line in lines if line)


def _first(result: Mapping[str, Any], names: tuple[str, ...]) -> str:
    texts = (result[name] for name in names if isinstance(result.get(name), str))
    return " ".join(readable(next(texts, "")).split())
