"""An orchestrator on the embedded model and on a fleet of real sockets, with workers and servers that fail."""

import asyncio
import random

import pytest

from aurora_swarm import Agent, Model, OpenAI, Orchestrator, TaskSpec, VLLMPool, Worker
from aurora_swarm.testing.fleet import Fault, ServerPlan, SimulatedFleet

CITIES = {"Anna": "Oslo", "Bela": "Rome", "Cleo": "Bonn", "Dora": "Riga", "Emil": "Lyon", "Finn": "Bern"}


class Mortal(Worker):
    """Dies the first time, and hangs the second."""

    times = 0

    async def work(self, assignment, mind, *, purse=None, rein=None):
        self.times += 1
        if self.times == 1:
            raise RuntimeError("canary-51")
        if self.times == 2:
            await asyncio.sleep(1_000)
        return await super().work(assignment, mind, purse=purse, rein=rein)


@pytest.mark.local_model
async def test_a_real_model_works_on_tasks_is_told_something_and_loses_a_worker():
    model = OpenAI(base_url="local://", max_tokens=24, temperature=0)
    clerk = Agent(model, name="clerk", instructions="You answer in one short sentence.")
    orchestrator = Orchestrator(model, workers=[Mortal(clerk), Worker(clerk), Worker(clerk)], lease_s=2.0)
    async with orchestrator.open() as session:
        session.steer(session.id, "Answer in English.")
        for name, city in CITIES.items():
            text = f"{name} is a nurse in {city}. In which city does {name} live?"
            session.add(TaskSpec(id=name, title=name, instructions=text))
        session.add(TaskSpec(id="who", title="who", instructions="Who lives in Rome?", after=("Anna", "Bela")))
        records = {record.id: record async for record in session.results()}
    assert all(record.ok for record in records.values()), records
    right = [name for name, city in CITIES.items() if city in records[name].text]
    assert len(right) >= 4, records
    assert sum(record.attempts for record in records.values()) >= len(records) + 1
    assert "canary" not in str([record.text for record in records.values()])


async def test_hundreds_of_tasks_on_a_fleet_of_which_a_fifth_refuses():
    dice = random.Random(4)
    plan = ServerPlan(latency_s=0.01, capacity=8)
    async with (
        SimulatedFleet([plan] * 10, faults=[Fault("refuse", share=0.2)]) as fleet,
        VLLMPool(fleet.endpoints) as pool,
    ):
        tasks = [
            TaskSpec(id=f"t{n}", title=f"Task {n}", after=(f"t{dice.randrange(n)}",) if n % 3 == 2 else ())
            for n in range(300)
        ]
        records = await Orchestrator(Model(backend=pool, max_tokens=8), nodes=40).run(tasks)
        assert fleet.counts().faults["refuse"] > 0
    assert [record.state for record in records] == ["done"] * 300
    assert len({record.worker for record in records}) <= 40
