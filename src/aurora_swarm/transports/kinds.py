"""Which kind of backend an endpoint is, which key is its, and what it can do. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from aurora_swarm.errors import InputError
from aurora_swarm.transports.capabilities import CAPABILITIES, capabilities_of
from aurora_swarm.values.capabilities import Capabilities
from aurora_swarm.values.endpoint import AgentEndpoint

BACKEND = "backend"
"""The tag of an endpoint that names its kind."""

PRIORITY = "priority"
"""The tag of an endpoint whose engine schedules by a priority field."""

MIXED = "mixed"
"""The kind of a fleet whose endpoints are of several, or that name models of their own."""

PROVIDERS: Mapping[str, str] = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}
"""Where a kind is served when no host is given."""

KEYS: Mapping[str, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "bedrock": "AWS_BEARER_TOKEN_BEDROCK",
}
"""The variable that holds a provider's key."""

BEDROCK_HOST = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
"""Where Bedrock is; names its region."""

_YES, _NO = frozenset(("1", "true", "yes", "on")), frozenset(("0", "false", "no", "off"))


def kind_of(endpoint: AgentEndpoint, otherwise: str) -> str:
    """The kind that an endpoint's tag names, or the one given.

    Raises:
        InputError: The tag names none.
    """
    named = endpoint.tags.get(BACKEND)
    if named is not None and named not in CAPABILITIES:
        remedy = f"write one of {', '.join(CAPABILITIES)}"
        raise InputError(f"{BACKEND}={named} is no kind of backend", source=endpoint.url, remedy=remedy)
    return named or otherwise


def has_priority(endpoint: AgentEndpoint) -> bool:
    """Whether an endpoint's engine schedules by a priority field, as its tag says.

    Raises:
        InputError: The tag says neither yes nor no.
    """
    told = endpoint.tags.get(PRIORITY, "0").lower()
    if told not in _YES | _NO:
        raise InputError(f"{PRIORITY}={told} is neither 1 nor 0", source=endpoint.url, remedy=f"write {PRIORITY}=1")
    return told in _YES


def is_provider(kind: str, endpoint: AgentEndpoint) -> bool:
    """Whether an endpoint is the provider itself, not something that speaks as it does."""
    if endpoint.scheme != "https":
        return False
    if kind == "bedrock":
        return BEDROCK_HOST.fullmatch(endpoint.host) is not None
    return endpoint.host == PROVIDERS.get(kind)


def provider_key(kind: str, endpoint: AgentEndpoint, environ: Mapping[str, str]) -> str | None:
    """The key that the environment holds for a provider; it is for that provider alone, so for nobody else."""
    return environ.get(KEYS[kind], "").strip() or None if is_provider(kind, endpoint) else None


def capabilities_at(kind: str, endpoint: AgentEndpoint) -> Capabilities:
    """What one endpoint of a kind can do; a server of one's own that speaks as OpenAI's does takes more at a time.

    Raises:
        InputError: A tag cannot be used.
    """
    found = capabilities_of(kind, priority=has_priority(endpoint))
    if kind == "openai" and not is_provider(kind, endpoint):
        return msgspec.structs.replace(found, concurrency=Capabilities().concurrency)
    return found
