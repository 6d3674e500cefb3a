"""Vectors of many texts, and which of them say the same.

The embedded model was made to answer, not to compare: for groups with a meaning name the hostfile of embedding servers.
"""

import asyncio
import sys

from aurora_swarm import EmbeddingPool, open_pool
from aurora_swarm.aggregators import semantic_agreement, semantic_entropy, semantic_groups
from aurora_swarm.patterns.embedding import scatter_gather_embeddings

ANSWERS = ["The pump is broken.", "The pump broke.", "Photosynthesis needs light.", "Photosynthesis needs water."]


async def main(backend: str) -> None:
    async with open_pool(backend) as fleet, EmbeddingPool(fleet.endpoints) as pool:
        responses = await scatter_gather_embeddings(pool, ANSWERS)
    vectors = [response.embedding for response in responses if response.embedding is not None]
    print(f"{len(vectors)} vectors of {len(vectors[0])} numbers; agreement {semantic_agreement(vectors):.2f}")
    for group in semantic_groups(vectors, threshold=0.9):
        print([ANSWERS[place] for place in group])
    print(f"entropy over meanings: {semantic_entropy(vectors, threshold=0.9):.2f} nats")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://?embeddings=1"))
