"""One prompt for each item, over all servers, the answers in the order of the items."""

import asyncio
import sys

from aurora_swarm import open_pool
from aurora_swarm.aggregators import failure_report
from aurora_swarm.patterns.scatter_gather import map_gather

COUNTRIES = ["France", "Italy", "Japan", "Egypt", "Peru", "Norway", "Kenya", "Canada"]


async def main(backend: str) -> None:
    async with open_pool(backend) as pool:
        responses = await map_gather(pool, COUNTRIES, "What is the capital of {item}? Answer in a few words.", 16)
    for country, response in zip(COUNTRIES, responses, strict=True):
        print(f"{country}: {response.text.strip() if response.success else response.error}")
    report = failure_report(responses)
    print(f"\n{report['succeeded']} answers, {report['failed']} failures; {responses.usage.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://?servers=2"))
