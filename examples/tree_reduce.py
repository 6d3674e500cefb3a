"""Summarise more notes than one context should hold: supervisors of supervisors, each with a few texts."""

import asyncio
import sys

from aurora_swarm import open_pool
from aurora_swarm.patterns.tree_reduce import tree_reduce

NOTES = [
    f"Day {day}: the reactor ran at {540 + 7 * (day % 5)} K, pump {day % 3 + 1} was cleaned." for day in range(1, 10)
]


async def main(backend: str) -> None:
    async with open_pool(backend) as pool:
        result = await tree_reduce(
            pool,
            "Repeat the temperature and the pump of this note in a few words.\n\n{item}",
            "Merge these notes into one short list without repeating any:\n\n{responses}",
            fanin=3,
            items=NOTES,
            quorum=0.9,
            max_tokens_aggregation=60,
        )
    print(result.text if result.success else result.error)
    print(
        f"\n{result.n_ok} of {len(NOTES)} notes are in it; missing: {list(result.missing)}; {result.attempts} requests"
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://?servers=2"))
