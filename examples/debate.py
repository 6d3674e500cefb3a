"""Agents answer, read each other and answer again; a judge reads everything."""

import asyncio
import sys

from aurora_swarm import open_pool
from aurora_swarm.patterns.debate import debate


async def main(backend: str) -> None:
    async with open_pool(backend) as pool:
        outcome = await debate(
            pool,
            "Should a laboratory of five people keep its own server? Answer in one sentence.",
            n_agents=3,
            rounds=2,
            judge_prompt="Who is right? Answer in one sentence.",
            max_tokens=32,
        )
    print(outcome.transcript)
    print(f"Judge: {outcome.answer if outcome.error is None else outcome.error}")
    spent = outcome.usage
    print(f"\n{spent.prompt_tokens} prompt tokens, {spent.cached_tokens} of them from the servers' caches")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
