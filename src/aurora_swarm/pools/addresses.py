"""From the text that names a backend to an endpoint and its kind. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

import msgspec

from aurora_swarm.errors import InputError
from aurora_swarm.inputs.files import without_credentials
from aurora_swarm.inputs.hostfile import parse_endpoint
from aurora_swarm.transports.kinds import PRIORITY, PROVIDERS
from aurora_swarm.transports.mixed import MODEL
from aurora_swarm.values.endpoint import AgentEndpoint

PLAIN = "http"
"""The kind of an address that names none: an OpenAI-compatible server of which nothing else is known."""

SCHEMES = (
    "vllm",
    "sglang",
    "dynamo",
    "llamacpp",
    "openai",
    "anthropic",
    "bedrock",
    "http",
    "https",
    "generate",
    "local",
)
"""What a backend URL may begin with: ``local://`` starts the embedded model, the rest are servers that run."""

_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]")


def endpoint_of(text: str) -> tuple[str, AgentEndpoint]:
    """The kind of backend that a text names, and where it is.

    ``#model`` at the end names the model to ask there, ``?priority=1`` an engine that schedules by priority; both
    become tags. ``openai://`` and ``anthropic://`` without a host are the providers themselves, ``bedrock://us-east-1``
    is Bedrock in a region.

    Raises:
        InputError: It names none.
    """
    address, tags = _split(text)
    scheme, separator, rest = address.partition("://")
    if not separator:
        return PLAIN, _tagged(parse_endpoint(address), tags)
    if scheme not in SCHEMES:
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise InputError(
            f"unknown backend {scheme}://", source=without_credentials(text), remedy=f"use one of: {known}"
        )
    return scheme, _tagged(_located(scheme, rest.rstrip("/"), address), tags)


def _located(scheme: str, rest: str, address: str) -> AgentEndpoint:
    if not rest and scheme in PROVIDERS:
        return AgentEndpoint(PROVIDERS[scheme], 443, scheme="https")
    if scheme == "bedrock" and _REGION.fullmatch(rest):
        return AgentEndpoint(f"bedrock-runtime.{rest}.amazonaws.com", 443, scheme="https")
    endpoint = parse_endpoint(address if scheme in {"http", "https"} else f"http://{rest}")
    # People paste the base URL that other clients want; the wires add the version themselves.
    return msgspec.structs.replace(endpoint, path=endpoint.path.removesuffix("/v1"))


def _split(text: str) -> tuple[str, dict[str, str]]:
    """The address, and what stands behind it as tags."""
    before, _, model = text.partition("#")
    address, _, query = before.partition("?")
    tags = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(tags.keys() - {PRIORITY})
    if unknown:
        raise InputError(
            f"?{unknown[0]} is not known", source=without_credentials(text), remedy=f"the only one is ?{PRIORITY}=1"
        )
    return address, {**tags, **({MODEL: unquote(model)} if model else {})}


def _tagged(endpoint: AgentEndpoint, tags: Mapping[str, str]) -> AgentEndpoint:
    return msgspec.structs.replace(endpoint, tags={**endpoint.tags, **tags}) if tags else endpoint
