"""From a word to a transport: the only place that names the classes."""

from __future__ import annotations

from collections.abc import Mapping

from aurora_swarm.errors import UsageError
from aurora_swarm.ports.http import Http
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.chat_batch import ChatBatchWire
from aurora_swarm.transports.completions import CompletionsBatchWire, CompletionsWire
from aurora_swarm.transports.either import EitherTransport
from aurora_swarm.transports.generate import GenerateWire
from aurora_swarm.transports.http_transport import HttpTransport
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.wire import BatchWire, Wire

OPENAI_KINDS = ("openai", "vllm", "sglang", "llamacpp", "http", "https")
KINDS = ("generate", "completions", *OPENAI_KINDS)
"""What `open_transport` knows: ``generate`` asks endpoints that do not know that path for chat completions,
``completions`` is for models without a chat template, the rest as they are named.
"""


def open_transport(
    kind: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    max_connections: int | None = None,
    connect_timeout_s: float = 10.0,
    idle_timeout_s: float = 120.0,
    http: Http | None = None,
) -> Transport:
    """A transport that speaks the wire of `kind`.

    Args:
        kind: One of `KINDS`.
        api_key: Bearer token; never shown in errors.
        headers: Further headers of every request.
        max_connections: Connections in use at most; None for as many as this process may open.
        connect_timeout_s: Seconds to establish a connection.
        idle_timeout_s: Longest silence within a streamed answer.
        http: How bytes travel; None for the built-in client.

    Raises:
        UsageError: `kind` is unknown, the key cannot be a header, or a number is not positive.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind of transport", remedy=f"use one of {', '.join(KINDS)}")
    if http is None:
        from aurora_swarm.transports.http_ry import RyHttp  # noqa: PLC0415 - loads the HTTP library only now

        http = RyHttp(connect_timeout_s=connect_timeout_s, max_connections=max_connections)

    def over(wire: Wire, batch: BatchWire | None) -> HttpTransport:
        return HttpTransport(http, wire, batch=batch, api_key=api_key, headers=headers, idle_timeout_s=idle_timeout_s)

    if kind == "generate":
        return EitherTransport(over(GenerateWire(), None), over(OpenAIChatWire(), None))
    return over(*_wires(kind))


def _wires(kind: str) -> tuple[Wire, BatchWire]:
    """How one call is written, and many."""
    if kind == "completions":
        return CompletionsWire(), CompletionsBatchWire()
    return OpenAIChatWire(), ChatBatchWire()
