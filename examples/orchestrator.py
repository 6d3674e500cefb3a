"""A crew works on tasks that build on each other; one worker dies, and nobody notices."""

import asyncio
import sys
from typing import Any

from aurora_swarm import Agent, Model, Orchestrator, TaskSpec, Worker

PEOPLE = {"Anna": "Anna is a nurse in Oslo.", "Bela": "Bela is a pilot in Rome.", "Cleo": "Cleo is a baker in Bonn."}


class Mortal(Worker):
    """A worker that does not live through its first task."""

    died = False

    async def work(self, *given: Any, **more: Any) -> Any:
        """Die, or work as any worker does."""
        if not self.died:
            self.died = True
            raise RuntimeError("the power is gone")
        return await super().work(*given, **more)


async def main(backend: str) -> None:
    model = Model(backend=backend, max_tokens=40, temperature=0)
    clerk = Agent(model, name="clerk", instructions="You answer in one short sentence.")
    orchestrator = Orchestrator(model, workers=[Mortal(clerk), Worker(clerk)])
    tasks = [
        TaskSpec(id=name, title=name, instructions=f"{fact} In which city does {name} live?")
        for name, fact in PEOPLE.items()
    ]
    async with orchestrator.open() as session:
        session.add_all(tasks)
        session.add(TaskSpec(title="Who", instructions="Who of them lives in Rome?", after=tuple(PEOPLE)))
        async for record in session.results():
            print(f"{record.spec.title}: {record.text.strip()} ({record.attempts} attempts)")
        status = session.status()
    print(f"\n{status.tasks['done']} of {len(tasks) + 1} tasks are done; {status.usage.total_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://"))
