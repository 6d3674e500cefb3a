"""The seam to a model: a call out, a reply in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol, runtime_checkable

from aurora_swarm.errors import CallError
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Delta, Embeddings, EndpointInfo, EndpointLoad, Reply


class Transport(Protocol):
    """Carries calls to endpoints.

    Contract, held by one suite for every transport (`aurora_swarm.testing.transport_contract`):

    * One attempt per method call: no retry, no choice of endpoint, no queue in here.
    * A failure is a `CallError` with `endpoint` set. Nothing half-finished is a reply: a cut stream, a missing
      choice, an abort, a ``200`` that carries an error object are failures.
    * `timeout_s` bounds the whole attempt and ends as `AttemptTimeoutError`.
    * Cancelling closes the connection, so that the server stops generating.
    * A `Call` with an empty model is sent with the first model that the endpoint lists.
    """

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:
        """One call, one whole answer."""
        ...

    def stream(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> AsyncIterator[Delta]:
        """One call, its answer as it is generated; the last `Delta` carries the whole `Reply`."""
        ...

    async def send_many(
        self, endpoint: AgentEndpoint, calls: Sequence[Call], *, timeout_s: float
    ) -> list[Reply | CallError]:
        """Several calls with equal sampling and model in one request, answered in the order of `calls`.

        Every call is put to the model as `send` would put it, with the same chat template.

        Raises:
            BatchUnsupportedError: The endpoint, or this wire, takes no such request; single calls may well succeed.
            CallError: The request as a whole failed. A part that failed is in the list instead.
        """
        ...

    async def embed(self, endpoint: AgentEndpoint, texts: Sequence[str], *, model: str, timeout_s: float) -> Embeddings:
        """Vectors for `texts`, in their order."""
        ...

    async def probe(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointInfo:
        """Ask who is there, without generating anything.

        Raises:
            CallError: Nobody answers, or what answers is not a model server.
        """
        ...

    async def load(self, endpoint: AgentEndpoint, *, timeout_s: float) -> EndpointLoad | None:
        """What the engine says of its own load; None where it does not say.

        Raises:
            CallError: Nobody answers.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """A transport that can have a prompt counted by the endpoint's own tokenizer."""

    async def count_tokens(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> int | None:
        """Tokens of the call's prompt, chat template included; None where the endpoint cannot count.

        Raises:
            CallError: Nobody answers.
        """
        ...
