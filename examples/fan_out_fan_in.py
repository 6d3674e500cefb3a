"""Several drafts of one text, and an editor who makes one of them."""

import asyncio
import sys

from aurora_swarm import open_pool
from aurora_swarm.patterns.pipeline import fan_out_fan_in
from aurora_swarm.pools.open import PoolOptions
from aurora_swarm.values.call import Sampling


async def main(backend: str) -> None:
    async with open_pool(backend, PoolOptions(sampling=Sampling(max_tokens=40, temperature=0.8))) as pool:
        result = await fan_out_fan_in(
            pool,
            "Write one sentence that announces the opening of a new physics lab.",
            "Make one announcement of these drafts. Keep the best of each.\n\n{responses}",
            max_tokens_aggregation=60,
        )
    print(result.text if result.success else result.error)
    print(f"\nmade of {result.n_ok} drafts")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://?servers=2"))
