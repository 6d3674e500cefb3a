"""An `aurora_swarm.EmbeddingPool`, or whatever else embeds as it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from aurora_swarm.errors import AuroraSwarmError, BadResponseError, UsageError
from aurora_swarm.memory.checking import Vectors
from aurora_swarm.memory.embedders.sharing import embed_for_all
from aurora_swarm.memory.gathering import Gathering
from aurora_swarm.values.outcome import EmbeddingResponse

_TASKS_AT_ONCE = 4_096
_TEXTS_AT_ONCE = 4_096


class Fleet(Protocol):
    """What is needed of a pool."""

    async def embed_all(self, texts: Sequence[str]) -> list[EmbeddingResponse]:
        """A response for each text, in their order; failures are in them."""


class FleetEmbedder:
    """Embeds texts on a fleet of servers: routed, retried and batched by the pool.

    Args:
        pool: An open `aurora_swarm.EmbeddingPool`; closing the embedder does not close it.
        model: Name of the model that all of it serves. Vectors are compared by it, whichever server made them.

    Raises:
        UsageError: There is no model.
    """

    def __init__(self, pool: Fleet, model: str) -> None:
        if not model:
            raise UsageError("vectors are compared by the name of their model", remedy="give the model's name")
        self.name = f"endpoint-{model}"
        self._pool = pool
        self._texts = Gathering[Sequence[str], Vectors](self._embed, most=_TASKS_AT_ONCE, name="the embedder")

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, in their order.

        Raises:
            CallError: One of them could not be embedded anywhere.
            StoreError: It is closed.
        """
        return await self._texts(texts) if texts else np.empty((0, 0), dtype=np.float32)

    async def aclose(self) -> None:
        """Answer who asked, and nobody any more. May be called twice."""
        await self._texts.aclose()

    async def _embed(self, asked: list[Sequence[str]]) -> list[Vectors | Exception]:
        return await embed_for_all(asked, self._request, size=_TEXTS_AT_ONCE, width=1)

    async def _request(self, texts: list[str]) -> Sequence[Sequence[float] | AuroraSwarmError]:
        return [_vector(response) for response in await self._pool.embed_all(texts)]


def _vector(response: EmbeddingResponse) -> Sequence[float] | AuroraSwarmError:
    if response.embedding is not None:
        return response.embedding
    return response.error or BadResponseError("no vector came, and no error")
