"""A server that speaks OpenAI's ``POST /v1/embeddings``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from aurora_swarm.errors import UsageError
from aurora_swarm.inputs.hostfile import parse_endpoint
from aurora_swarm.memory.checking import Vectors
from aurora_swarm.memory.embedders.sharing import embed_for_all
from aurora_swarm.memory.gathering import Gathering
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.open import open_transport

_TASKS_AT_ONCE = 1_024


class EndpointEmbedder:
    """Embeds texts on one server, the texts of many tasks at a time.

    A request that fails is not repeated; over several servers, with retries, use
    `aurora_swarm.memory.embedders.fleet.FleetEmbedder`.

    Args:
        url: ``http://host:8080`` or ``https://host/v1``.
        model: Name that the server knows. Vectors are compared by it.
        api_key: Bearer token; never shown in errors.
        batch_size: Texts per request at most.
        concurrency: Requests at a time at most.
        timeout: Seconds for one request.
        transport: How requests travel; None for the built-in client.

    Raises:
        UsageError: There is no model, or a number is not positive.
        InputError: The URL is none.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        batch_size: int = 32,
        concurrency: int = 8,
        timeout: float = 60.0,
        transport: Transport | None = None,
    ) -> None:
        if not model or min(batch_size, concurrency, timeout) <= 0:
            raise UsageError("an embeddings endpoint needs a model's name, and numbers above 0")
        endpoint = parse_endpoint(url)
        self.name = f"endpoint-{model}"
        self._endpoint = msgspec.structs.replace(endpoint, path=endpoint.path.removesuffix("/v1"))
        self._model = model
        self._size, self._width, self._timeout_s = batch_size, concurrency, timeout
        self._transport = transport or open_transport("openai", api_key=api_key, max_connections=concurrency)
        self._texts = Gathering[Sequence[str], Vectors](self._embed, most=_TASKS_AT_ONCE, name="the embedder")

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, in their order.

        Raises:
            CallError: The server did not answer, or refused.
            StoreError: It is closed.
        """
        return await self._texts(texts) if texts else np.empty((0, 0), dtype=np.float32)

    async def aclose(self) -> None:
        """Release connections. May be called twice."""
        await self._texts.aclose()
        await self._transport.aclose()

    async def _embed(self, asked: list[Sequence[str]]) -> list[Vectors | Exception]:
        return await embed_for_all(asked, self._request, size=self._size, width=self._width)

    async def _request(self, texts: list[str]) -> Sequence[Sequence[float]]:
        made = await self._transport.embed(self._endpoint, texts, model=self._model, timeout_s=self._timeout_s)
        return made.vectors
