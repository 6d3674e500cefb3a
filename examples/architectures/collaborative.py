"""Three agents look at a task from three sides, and vote on what to propose."""

import asyncio
import sys

from aurora_swarm.swarms.architectures.collaborative import Collaborative, CollaborativeAgent
from aurora_swarm.swarms.models import Model

TASK = "A laboratory of five people wants a server. Propose in one short sentence which one to buy."


async def main(backend: str) -> None:
    model = Model("", backend, temperature=0.7, max_tokens=24)
    agents = tuple(CollaborativeAgent(model, name=aspect, aspect=aspect) for aspect in ("cost", "noise", "safety"))
    outcome = await Collaborative(agents, decide="vote").run(TASK)
    for part in outcome.parts:
        print(f"{part.agent}, {part.stage}: {part.text or part.error}")
    print(f"Decided: {outcome.answer or outcome.error}; agreement {outcome.confidence or 0:.2f}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
