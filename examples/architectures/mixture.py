"""Three proposers, and an aggregator that reads them and gives one answer."""

import asyncio
import sys

from aurora_swarm.swarms.architectures.mixture import AggregatorAgent, MixtureOfAgents, ProposerAgent
from aurora_swarm.swarms.models import Model

TASK = "Say in one short sentence what a heat pump does."


async def main(backend: str) -> None:
    model = Model("", backend, temperature=0.7, max_tokens=24)
    mixture = MixtureOfAgents(layers=((ProposerAgent(model),) * 3,), aggregator=AggregatorAgent(model))
    outcome = await mixture.run(TASK, on_part=lambda part: print(f"{part.agent}: {part.text or part.error}"))
    print(f"Made of {outcome.n_ok}: {outcome.answer or outcome.error}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
