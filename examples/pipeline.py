"""Two sides and a verdict, as a graph of stages; several proposals stream through it, none waits for another."""

import asyncio
import sys

from aurora_swarm import open_pool
from aurora_swarm.patterns.pipeline import Stage, stream_pipeline
from aurora_swarm.pools.open import PoolOptions
from aurora_swarm.values.call import Sampling

STAGES = [
    Stage("pro", "In one sentence, say what speaks for this: {input}"),
    Stage("con", "In one sentence, say what speaks against this: {input}", after=[]),
    Stage("verdict", "For: {pro}\nAgainst: {con}\n\nDecide in one sentence: {initial_input}", after=["pro", "con"]),
]
PROPOSALS = ["Buy a second furnace.", "Move the night shift to Monday.", "Let visitors into the lab."]


async def main(backend: str) -> None:
    async with open_pool(backend, PoolOptions(sampling=Sampling(max_tokens=32, temperature=0))) as pool:
        async for flowed in stream_pipeline(pool, STAGES, PROPOSALS):
            print(f"{PROPOSALS[flowed.index]}\n  {flowed.output.strip() if flowed.ok else flowed.error}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://?servers=2"))
