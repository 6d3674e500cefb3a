"""Two swarms here and one elsewhere, reached over A2A, on one objective within one budget."""

import asyncio
import sys

from aurora_swarm import Budget, Hivemind, Orchestrator, Swarm, TaskSpec
from aurora_swarm.gateway.a2a_server import serve_swarm
from aurora_swarm.swarms.models import Model

FACTS = {
    "bees": "A honey bee flies at 25 km/h and beats its wings 230 times a second.",
    "wasps": "A wasp flies at 30 km/h and lives for 15 days.",
    "ants": "An ant walks at 1 km/h and carries 50 times its weight.",
}


async def main(backend: str) -> None:
    model = Model(backend=backend, max_tokens=32, temperature=0)

    def swarm(name: str) -> Swarm:
        return Swarm(Orchestrator(model, nodes=2), name=name, about=f"Knows {name}.", auto=False, max_tasks=1)

    async with serve_swarm(swarm("ants")) as served:
        hive = Hivemind([swarm("bees"), swarm("wasps"), served.url], budget=Budget(tokens=60_000))
        here = dict(zip(FACTS, hive.members, strict=True))
        outcome = await hive.run(
            "What is known of these insects?",
            tasks=[
                TaskSpec(title=name, instructions=f"{text} Say in one sentence how fast it is.", skills=(here[name],))
                for name, text in FACTS.items()
            ],
        )
    for task in outcome.tasks:
        print(f"{task.worker}: {task.text}")
    print(f"\nAll: {outcome.answer if outcome.ok else outcome.error}")
    for note in outcome.notes:
        print(f"Note: {note}")
    print(f"\n{outcome.n_ok} of 3 answered; {outcome.usage.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
