"""A leader hands out notes, each worker reads one, and the leader makes a list of what they bring."""

import asyncio
import sys

from pydantic import BaseModel, Field

from aurora_swarm.aggregators import structured_merge
from aurora_swarm.swarms.architectures.hierarchical import Hierarchical, LeaderAgent, WorkerAgent
from aurora_swarm.swarms.models import Model

TASK = """Read your part and say who is in which city.

Your part:
<material>
In Milan, Rosa Conti is known as a good dancer.
</material>
{"name": "Rosa Conti", "city": "Milan"}"""
NOTES = [
    "Mara Lind works as a baker in Oslo.",
    "In Warsaw, Tom Okafor is known as a good teacher.",
    "Clara Larsen works as a barber in Naples.",
]


class Person(BaseModel):
    """Who is where."""

    name: str = Field(max_length=24)
    city: str = Field(max_length=24)


def listed(_task, results):
    people, _ = structured_merge(results)
    return "; ".join(f"{each['name']}: {each['city']}" for each in people)


async def main(backend: str) -> None:
    model = Model("", backend, temperature=0.0, max_tokens=40)
    swarm = Hierarchical(LeaderAgent(model, merge=listed), (WorkerAgent(model),) * 3, part_schema=Person)
    outcome = await swarm.run(TASK, NOTES)
    print(outcome.answer if outcome.ok else outcome.error)
    print(f"{outcome.n_ok} parts are in it, {outcome.n_failed} are missing; {outcome.usage.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
