"""A fleet of embedding servers: texts in, vectors out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from aurora_swarm.dispatch.dispatcher import Limits
from aurora_swarm.errors import CallError, UsageError
from aurora_swarm.pools.agent_pool import checked_fleet
from aurora_swarm.pools.batching import bundle_size, bundles
from aurora_swarm.pools.fleet import Fleet
from aurora_swarm.pools.flow import in_order, unchanged
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import EmbeddingResponse, Outcome
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply, Usage

BATCH_SIZE = 32
"""Texts per request, where nobody says: what Hugging Face's embedding server takes without being told."""


class EmbeddingPool(Fleet["EmbeddingPool"]):
    """Endpoints that speak OpenAI's ``POST /v1/embeddings``.

    Use it as ``async with EmbeddingPool(endpoints, model="...") as pool:``. A text that could not be embedded is never
    raised: it is an `EmbeddingResponse` whose `error` says why.

    Args:
        endpoints: The fleet; at least one endpoint, none twice.
        model: Name that the servers know; empty for whatever each of them serves. Vectors of different models cannot
            be compared.
        concurrency: Requests under way at a time, over the whole fleet.
        timeout: Seconds for one attempt, from sending to the last byte.
        batch_size: Texts per request at most. Servers that take fewer refuse; then halves are sent.
        connector_limit: Connections kept open at most.
        deadline: Seconds for one request with all its retries; three times `timeout` when None.
        api_key: Bearer token; never shown in errors, logs or results.
        transport: How requests travel; for tests, recordings and wires of your own.

    Raises:
        NoEndpointsError: `endpoints` is empty.
        UsageError: An endpoint is given twice, or a number is not positive.
    """

    def __init__(
        self,
        endpoints: Iterable[AgentEndpoint],
        model: str = "",
        concurrency: int = 512,
        timeout: float = 60.0,
        *,
        batch_size: int = BATCH_SIZE,
        connector_limit: int = 1024,
        deadline: float | None = None,
        api_key: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}", remedy="send 1 text per request at least")
        if transport is None:
            transport = open_transport("openai", api_key=api_key, max_connections=connector_limit)
        fleet = checked_fleet(endpoints)
        deadline_s = 3 * timeout if deadline is None else deadline
        limits = Limits(concurrency * batch_size, timeout, deadline_s, min(5.0, timeout))
        self._batch_size = batch_size
        super().__init__(Runtime(fleet, _Embedder(transport), limits=limits, model=model), range(len(fleet)))

    async def embed_one(self, agent_index: int, text: str) -> EmbeddingResponse:
        """Have one endpoint embed a text; another one only when that fails.

        Args:
            agent_index: The endpoint to prefer, counted in `endpoints`.
            text: Sent unchanged.

        Raises:
            UsageError: `agent_index` is out of range.
        """
        member, dispatcher = self._member(agent_index), self._runtime.dispatcher
        return self._respond_to(0, await dispatcher.ask(self._runtime.call(text, None), self._view, pin=member))

    async def embed_all(self, texts: Sequence[str]) -> list[EmbeddingResponse]:
        """Embed texts, many to a request, on whichever endpoints have the least to do.

        A request that is refused is halved until the bad text stands alone; a vector that is missing or failed is asked
        for again.

        Args:
            texts: May be empty.

        Returns:
            One response per text, in the order of `texts`. Cancelling cancels every request under way.
        """
        calls = [self._runtime.call(text, None) for text in texts]
        outcomes: dict[int, Outcome] = {}

        async def one(_: int, run: tuple[int, ...]) -> None:
            given = await self._runtime.dispatcher.ask_many([calls[place] for place in run], self._view)
            outcomes.update(zip(run, given, strict=True))

        size = bundle_size(len(calls), self.size, self._batch_size) if calls else 1
        width = max(self.concurrency // size, 1)
        await in_order(bundles(range(len(calls)), size), one, then=unchanged, width=width)
        return [self._respond_to(place, outcomes[place]) for place in range(len(calls))]

    def _part(self, members: Sequence[int]) -> EmbeddingPool:
        part = object.__new__(EmbeddingPool)
        part._batch_size = self._batch_size
        Fleet.__init__(part, self._runtime, members)
        return part

    def _respond_to(self, index: int, outcome: Outcome) -> EmbeddingResponse:
        reply = outcome.reply
        assert reply is None or isinstance(reply, _Embedded)
        return EmbeddingResponse(
            success=reply is not None,
            embedding=reply.vector if reply is not None else None,
            error=outcome.error,
            agent_index=self._place_of(outcome.endpoint),
            endpoint=outcome.endpoint,
            index=index,
            usage=reply.usage if reply is not None else Usage(),
            model=reply.model if reply is not None else "",
            attempts=outcome.attempts,
            failures=outcome.failures,
            latency_s=outcome.latency_s,
        )


class _Embedded(Reply, frozen=True, gc=False):
    """A vector on its way through the dispatcher.

    Args:
        vector: The text's.
    """

    vector: tuple[float, ...] = ()


class _Embedder:
    """A transport whose answers are vectors: the dispatcher then does for texts what it does for prompts."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One text."""
        return (await self._embed(endpoint, (call,), timeout_s))[0]

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several texts in one request."""
        return [*await self._embed(endpoint, calls, timeout_s)]

    def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """Vectors come whole; nobody streams them."""
        return self._inner.stream(endpoint, call, timeout_s=timeout_s)

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        return await self._inner.embed(endpoint, texts, model=model, timeout_s=timeout_s)

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Ask who is there."""
        return await self._inner.probe(endpoint, timeout_s=timeout_s)

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the engine says of its own load."""
        return await self._inner.load(endpoint, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        await self._inner.aclose()

    async def _embed(self, endpoint: AgentEndpoint, calls: Sequence[Call], timeout_s: float) -> list[_Embedded]:
        texts = [call.messages[0].content for call in calls]
        made = await self._inner.embed(endpoint, texts, model=calls[0].model, timeout_s=timeout_s)
        spent = shares(made.usage.prompt_tokens, [len(text) for text in texts])
        return [
            _Embedded("", usage=Usage(prompt_tokens=tokens), model=made.model, vector=vector)
            for tokens, vector in zip(spent, made.vectors, strict=True)
        ]


def shares(total: int, lengths: Sequence[int]) -> list[int]:
    """`total` in whole parts as large as the lengths are; they add up to it. Pure."""
    whole, done, past, parts = sum(lengths) or 1, 0, 0, list[int]()
    for length in lengths:
        past += length
        parts.append(total * past // whole - done)
        done += parts[-1]
    return parts
