"""Many texts over a fleet of embedding servers, their vectors in input order."""

from __future__ import annotations

from collections.abc import Sequence

from aurora_swarm.pools.embedding_pool import EmbeddingPool
from aurora_swarm.values.outcome import EmbeddingResponse


async def scatter_gather_embeddings(pool: EmbeddingPool, texts: Sequence[str]) -> list[EmbeddingResponse]:
    """Embed texts, many to a request, on whichever endpoints have the least to do.

    Args:
        pool: Who is asked.
        texts: May be empty.

    Returns:
        One response per text, in the order of `texts`; failures are in it, not raised. Cancelling cancels every
        request under way.
    """
    return await pool.embed_all(texts)
