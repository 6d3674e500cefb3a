"""From a word to a transport: the only place that names the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aurora_swarm.errors import UsageError
from aurora_swarm.ports.http import Http
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.chat_batch import ChatBatchWire
from aurora_swarm.transports.completions import CompletionsBatchWire, CompletionsWire
from aurora_swarm.transports.either import EitherTransport
from aurora_swarm.transports.generate import GenerateWire
from aurora_swarm.transports.hints import DynamoChatWire, PriorityChatWire
from aurora_swarm.transports.http_transport import HttpTransport
from aurora_swarm.transports.kinds import MIXED, has_priority, is_provider, kind_of, provider_key
from aurora_swarm.transports.mixed import MixedTransport
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.wire import BatchWire, Wire
from aurora_swarm.values.endpoint import AgentEndpoint

OPENAI_KINDS = ("openai", "vllm", "sglang", "dynamo", "llamacpp", "local", "http", "https")
KINDS = ("generate", "completions", *OPENAI_KINDS, "anthropic", "bedrock", MIXED)
"""What `open_transport` knows: ``generate`` asks endpoints that do not know that path for chat completions,
``completions`` is for models without a chat template, ``mixed`` goes by the tags of each endpoint, the rest as they are
named.
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
    priority: bool = False,
    hosted: bool = False,
    streamed: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Transport:
    """A transport that speaks the wire of `kind`.

    Args:
        kind: One of `KINDS`.
        api_key: The key, sent as the kind wants it; never shown in errors.
        headers: Further headers of every request.
        max_connections: Connections in use at most; None for as many as this process may open.
        connect_timeout_s: Seconds to establish a connection.
        idle_timeout_s: Longest silence within a streamed answer.
        http: How bytes travel; None for the built-in client.
        priority: Whether the engine schedules by a priority field in the request, and so takes one.
        hosted: Whether ``openai`` is OpenAI itself, which differs in places from what speaks as it does.
        streamed: Whether whole answers are asked for as streams too, so that replies tell when their first token came.
        environ: Where ``mixed`` finds the keys of the providers among its endpoints; None for nowhere.

    Raises:
        UsageError: `kind` is unknown, the key cannot be a header, a number is not positive, or Bedrock is to be asked
            without a key and requests to it cannot be signed.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind of transport", remedy=f"use one of {', '.join(KINDS)}")
    if http is None:
        from aurora_swarm.transports.http_plain import PlainHttp  # noqa: PLC0415 - loads the HTTP library only now

        http = PlainHttp(connect_timeout_s=connect_timeout_s, max_connections=max_connections)
    opener = _Opener(http, headers, idle_timeout_s, streamed)
    if kind == MIXED:
        return MixedTransport(_Chooser(opener, api_key, environ or {}), http.aclose)
    return opener.open(kind, api_key, priority=priority, hosted=hosted)


class _Opener:
    """Opens transports of any kind over one `Http`."""

    def __init__(self, http: Http, headers: Mapping[str, str] | None, idle_timeout_s: float, streamed: bool) -> None:
        self._http = http
        self._headers = headers
        self._idle_timeout_s = idle_timeout_s
        self._streamed = streamed

    def open(self, kind: str, api_key: str | None, *, priority: bool, hosted: bool) -> Transport:
        if kind == "openai" and hosted:
            return self._openai(api_key)
        if kind == "anthropic":
            return self._anthropic(api_key)
        if kind == "bedrock":
            return self._bedrock(api_key)
        if kind == "generate":
            return EitherTransport(self._over(GenerateWire(), None, api_key), self._over(_chat(kind), None, api_key))
        if kind == "completions":
            return self._over(CompletionsWire(), CompletionsBatchWire(), api_key)
        return self._over(_chat(kind, priority=priority), ChatBatchWire(), api_key)

    def _over(self, wire: Wire, batch: BatchWire | None, api_key: str | None) -> HttpTransport:
        return HttpTransport(
            self._http,
            wire,
            batch=batch,
            api_key=api_key,
            headers=self._headers,
            streamed=self._streamed,
            idle_timeout_s=self._idle_timeout_s,
        )

    def _openai(self, api_key: str | None) -> HttpTransport:
        from aurora_swarm.transports.hosted import HostedInquiry  # noqa: PLC0415 - when it is chosen
        from aurora_swarm.transports.openai_hosted import OpenAIHostedWire  # noqa: PLC0415

        return HttpTransport(
            self._http,
            OpenAIHostedWire(),
            ask=HostedInquiry,
            api_key=api_key,
            headers=self._headers,
            streamed=self._streamed,
            idle_timeout_s=self._idle_timeout_s,
        )

    def _anthropic(self, api_key: str | None) -> HttpTransport:
        from aurora_swarm.transports.anthropic import VERSION, AnthropicWire  # noqa: PLC0415 - when it is chosen
        from aurora_swarm.transports.hosted import HostedInquiry  # noqa: PLC0415

        return HttpTransport(
            self._http,
            AnthropicWire(),
            ask=HostedInquiry,
            embeds=False,
            api_key=api_key,
            key_header="x-api-key",
            headers={"anthropic-version": VERSION, **(self._headers or {})},
            streamed=self._streamed,
            idle_timeout_s=self._idle_timeout_s,
        )

    def _bedrock(self, api_key: str | None) -> HttpTransport:
        from aurora_swarm.transports.bedrock import BedrockWire  # noqa: PLC0415 - when it is chosen
        from aurora_swarm.transports.hosted import BedrockInquiry  # noqa: PLC0415
        from aurora_swarm.transports.signing import SignedHttp  # noqa: PLC0415

        return HttpTransport(
            self._http if api_key else SignedHttp(self._http),
            BedrockWire(),
            ask=BedrockInquiry,
            embeds=False,
            api_key=api_key,
            headers=self._headers,
            streamed=self._streamed,
            idle_timeout_s=self._idle_timeout_s,
        )


class _Chooser:
    """Gives each endpoint the transport of its kind and its key; those that are alike share one.

    A provider's own key goes to it alone, and the key that was given to all others.
    """

    def __init__(self, opener: _Opener, api_key: str | None, environ: Mapping[str, str]) -> None:
        self._opener = opener
        self._api_key = api_key
        self._environ = environ
        self._opened: dict[tuple[str, str | None, bool, bool], Transport] = {}

    def __call__(self, endpoint: AgentEndpoint) -> Transport:
        kind, priority = kind_of(endpoint, "http"), has_priority(endpoint)
        key, hosted = provider_key(kind, endpoint, self._environ) or self._api_key, is_provider(kind, endpoint)
        alike = (kind, key, priority, hosted)
        if alike not in self._opened:
            self._opened[alike] = self._opener.open(kind, key, priority=priority, hosted=hosted)
        return self._opened[alike]


_CHATS: Mapping[str, Callable[[], OpenAIChatWire]] = {
    "vllm": PriorityChatWire,
    "sglang": lambda: PriorityChatWire(least_first=False),
}


def _chat(kind: str, *, priority: bool = False) -> OpenAIChatWire:
    if kind == "dynamo":
        return DynamoChatWire()
    return _CHATS.get(kind, PriorityChatWire)() if priority else OpenAIChatWire()
