"""Several kinds of backends as one: each endpoint is asked in its own way, for its own model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from aurora_swarm.errors import CallError
from aurora_swarm.ports.transport import TokenCounter, Transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply

MODEL = "model"
"""The tag of an endpoint that names the model to ask it for, whatever a call says."""


class MixedTransport:
    """An `aurora_swarm.ports.transport.Transport` made of several, and a `TokenCounter`.

    Args:
        choose: Gives an endpoint's transport, the same one to endpoints that can share it; asked once per endpoint.
        close: Closes them all.
    """

    def __init__(self, choose: Callable[[AgentEndpoint], Transport], close: Callable[[], Awaitable[None]]) -> None:
        self._choose = choose
        self._close = close
        self._chosen: dict[int, tuple[AgentEndpoint, Transport, str]] = {}

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One call, one whole answer."""
        _, transport, model = self._of(endpoint)
        return await transport.send(endpoint, _for_model(call, model), timeout_s=timeout_s)

    def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """One call, its answer as it is generated."""
        _, transport, model = self._of(endpoint)
        return transport.stream(endpoint, _for_model(call, model), timeout_s=timeout_s)

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls in one request."""
        _, transport, model = self._of(endpoint)
        return await transport.send_many(endpoint, [_for_model(call, model) for call in calls], timeout_s=timeout_s)

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        _, transport, own = self._of(endpoint)
        return await transport.embed(endpoint, texts, model=own or model, timeout_s=timeout_s)

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Ask who is there."""
        return await self._of(endpoint)[1].probe(endpoint, timeout_s=timeout_s)

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the engine says of its own load."""
        return await self._of(endpoint)[1].load(endpoint, timeout_s=timeout_s)

    async def count_tokens(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> int | None:
        """Tokens of the call's prompt; None where the endpoint cannot count."""
        _, transport, model = self._of(endpoint)
        if not isinstance(transport, TokenCounter):
            return None
        return await transport.count_tokens(endpoint, _for_model(call, model), timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        await self._close()

    def _of(self, endpoint: AgentEndpoint) -> tuple[AgentEndpoint, Transport, str]:
        """Remembered with the endpoint itself, so that its identity stays its own."""
        known = self._chosen.get(id(endpoint))
        if known is None:
            known = endpoint, self._choose(endpoint), endpoint.tags.get(MODEL, "")
            self._chosen[id(endpoint)] = known
        return known


def _for_model(call: Call, model: str) -> Call:
    return msgspec.structs.replace(call, model=model) if model and model != call.model else call
