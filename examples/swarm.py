"""An objective becomes a plan, the plan becomes tasks, and their answers become one."""

import asyncio
import sys

from aurora_swarm import Model, Orchestrator, Swarm
from aurora_swarm.swarms.happenings import PlanMade, SwarmEnded, TaskEnded


async def main(backend: str) -> None:
    orchestrator = Orchestrator(Model(backend=backend, max_tokens=48, temperature=0), nodes=4)
    swarm = Swarm(orchestrator, objective="Describe a bee and a wasp.", max_tasks=3, max_depth=1)
    async for event in swarm.stream():
        match event:
            case PlanMade(tasks, notes):
                print(f"{len(tasks)} tasks:", ", ".join(task.title for task in tasks), *notes)
            case TaskEnded(record):
                print(f"{record.state}: {record.spec.title}")
            case SwarmEnded(outcome):
                print(f"\n{outcome.answer if outcome.ok else outcome.error}\n")
                print(f"{outcome.n_ok} of {len(outcome.tasks)} tasks are in it; {outcome.usage.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
