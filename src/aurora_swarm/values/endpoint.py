"""Where a model is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

import msgspec


class Tags(dict[str, str]):
    """Labels of an endpoint; a dict that refuses to change, so that an endpoint stays frozen."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("tags are frozen; build a new AgentEndpoint with the tags that you want")

    __setitem__ = __delitem__ = clear = update = setdefault = pop = popitem = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Tags, (dict(self),)


class AgentEndpoint(msgspec.Struct, frozen=True):
    """One inference server, by address.

    Frozen, hashable and comparable: two endpoints are the same when every field is. An endpoint is
    identified by itself, never by its place in a list.

    Args:
        host: Name, IPv4 or IPv6 address (without brackets).
        port: TCP port, 1-65535.
        tags: Labels such as ``{"role": "critic"}``; copied and frozen.
        scheme: ``http`` or ``https``.
        path: Base path before ``/v1``, ``/generate`` ...: empty, or starting with a slash and not ending in one.
    """

    host: str
    port: int = 8000
    tags: Mapping[str, str] = Tags()
    scheme: Literal["http", "https"] = "http"
    path: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.tags, Tags):
            msgspec.structs.force_setattr(self, "tags", Tags(self.tags))

    @property
    def url(self) -> str:
        """Base URL, for example ``http://node1:8000`` or ``https://[::1]:8443/base``; never ends in a slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"
