"""Two ways to ask: the second where an endpoint does not know the path of the first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aurora_swarm.errors import CallError
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.requests import ABSENT
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply


class EitherTransport:
    """An `aurora_swarm.ports.transport.Transport` made of two.

    An endpoint that has no such path as the first one asks for is asked by the other, now and from then on. One that
    knows neither fails with what it said to the first.

    Args:
        first: Tried at every endpoint; closed with this one.
        otherwise: Closed with this one.
    """

    def __init__(self, first: Transport, otherwise: Transport) -> None:
        self._first = first
        self._otherwise = otherwise
        self._elsewhere: set[str] = set()

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One call, one whole answer."""
        if self._elsewhere and endpoint.url in self._elsewhere:
            return await self._otherwise.send(endpoint, call, timeout_s=timeout_s)
        try:
            return await self._first.send(endpoint, call, timeout_s=timeout_s)
        except CallError as error:
            if error.status not in ABSENT:
                raise
            return await self._send_otherwise(endpoint, call, timeout_s, error)

    def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """One call, its answer as it is generated."""
        return self._known(endpoint).stream(endpoint, call, timeout_s=timeout_s)

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls in one request."""
        return await self._known(endpoint).send_many(endpoint, calls, timeout_s=timeout_s)

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        return await self._known(endpoint).embed(endpoint, texts, model=model, timeout_s=timeout_s)

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Ask who is there."""
        return await self._known(endpoint).probe(endpoint, timeout_s=timeout_s)

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the engine says of its own load."""
        return await self._known(endpoint).load(endpoint, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        await self._first.aclose()
        await self._otherwise.aclose()

    def _known(self, endpoint: AgentEndpoint) -> Transport:
        return self._otherwise if endpoint.url in self._elsewhere else self._first

    async def _send_otherwise(self, endpoint: AgentEndpoint, call: Call, timeout_s: float, refusal: CallError) -> Reply:
        try:
            reply = await self._otherwise.send(endpoint, call, timeout_s=timeout_s)
        except CallError as error:
            if error.status in ABSENT:
                raise refusal from None
            self._elsewhere.add(endpoint.url)
            raise
        self._elsewhere.add(endpoint.url)
        return reply
