"""A worker asks a person on the terminal and goes on with the answer; another one does not wait for that."""

import asyncio
import sys

from pydantic import BaseModel

from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.human.console import ConsoleHuman
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.swarms.work import Assignment
from aurora_swarm.swarms.worker import Worker


class Order(BaseModel):
    """What the answer has to be."""

    furnace: str


async def main(backend: str) -> None:
    model = OpenAI(base_url=backend, max_tokens=120, temperature=0.0, seed=1)
    buyer = Agent(model, name="buyer", instructions="You order furnaces.", tool_choice="required", max_turns=2)
    writer = Agent(model, name="writer", instructions="Answer in one short sentence.")
    # Where nobody can type, or nobody does within a minute, the default is taken.
    asking = Worker(buyer, human=ConsoleHuman(), answer_within_s=60, default_answer="the large one")

    order = Assignment(task="order", title="Which furnace do we need, the small one or the large one?", schema=Order)
    letter = Assignment(task="letter", title="Write a sentence that thanks a supplier.")
    async with model.opened() as mind:
        ordered, thanked = await asyncio.gather(asking.work(order, mind), Worker(writer).work(letter, mind))
    print(f"Order: {ordered.output.furnace if ordered.ok else ordered.error}")
    print(f"Letter: {thanked.text if thanked.ok else thanked.error}")
    print(f"{ordered.tool_calls} question asked")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
