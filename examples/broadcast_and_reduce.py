"""Ask every server the same, then have one of them merge what they said."""

import asyncio
import sys

from aurora_swarm import open_pool
from aurora_swarm.patterns.broadcast import broadcast_and_reduce


async def main(backend: str) -> None:
    async with open_pool(backend) as pool:
        result = await broadcast_and_reduce(
            pool,
            "In one sentence: why could a cooling pump run hot?",
            "Engineers said why a cooling pump could run hot:\n\n{responses}\n\nName the two causes to check first.",
            quorum=0.5,
            max_tokens_aggregation=80,
        )
    print(result.text if result.success else result.error)
    print(f"\n{result.n_ok} answers are in it, {result.n_failed} are missing; {result.usage.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://?servers=2"))
