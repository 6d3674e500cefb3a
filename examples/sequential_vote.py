"""A vote that asks no more voters than it needs, beside one that asks all."""

import asyncio
import sys

from aurora_swarm import open_pool
from aurora_swarm.aggregators import majority_vote
from aurora_swarm.patterns.scatter_gather import scatter_gather
from aurora_swarm.patterns.voting import sequential_vote
from aurora_swarm.pools.open import PoolOptions
from aurora_swarm.values.call import Sampling

QUESTION = "Answer with one word, yes or no. Is water wet?\nAnswer:"


async def main(backend: str) -> None:
    async with open_pool(backend, PoolOptions(sampling=Sampling(max_tokens=2, temperature=0.7))) as pool:
        vote = await sequential_vote(pool, QUESTION, n_voters=16)
        everybody = await scatter_gather(pool, [QUESTION] * 16)
    print(f"{vote.winner!r} after {len(vote.responses)} voters: {vote.votes}")
    print(f"{majority_vote(everybody)[0]!r} after all {len(everybody)}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
