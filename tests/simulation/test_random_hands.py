"""Tasks, workers and whole runs are paused, requeued, cancelled, steered and scaled at random while workers break down.

Whatever is done: nothing hangs, every task ends, and what ended otherwise than done was meant to.
"""

import asyncio
import random
from collections import Counter

import pytest

from aurora_swarm import Agent, Model, Orchestrator, TaskSpec, UsageError, VLLMPool, Worker
from aurora_swarm.swarms.work import FINAL, TaskState
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint


class Moody(Worker):
    """Dies, hangs or clings now and then."""

    def __init__(self, agent, dice):
        super().__init__(agent)
        self._dice = dice

    async def work(self, assignment, mind, *, purse=None, rein=None):
        mood = self._dice.random()
        if mood < 0.1:
            raise RuntimeError("moody")
        if mood < 0.2:
            await asyncio.sleep(1_000)
        if mood < 0.25:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                await asyncio.sleep(1_000)
        return await super().work(assignment, mind, purse=purse, rein=rein)


class Hands:
    """Does something at random to a session, and remembers what ended a task on purpose."""

    def __init__(self, session, dice, done):
        self.session, self.dice, self.done = session, dice, done
        self.cancelled_run = False

    def some_id(self):
        items = self.session.items(limit=40)
        ids = [item.id for item in items]
        return self.session.id if not ids or self.dice.random() < 0.15 else self.dice.choice(ids)

    def act(self, number):
        session, dice = self.session, self.dice
        what = dice.choices(["pause", "resume", "requeue", "cancel", "steer", "scale", "add"], [4, 5, 4, 1, 3, 2, 4])[0]
        try:
            if what == "scale":
                session.scale(dice.randint(1, 8))
            elif what == "add":
                known = [record.id for record in session.records()]
                after = tuple({dice.choice(known) for _ in range(dice.choice([0, 1, 2]))}) if known else ()
                session.add(TaskSpec(id=f"more{number}", title="More", after=after))
            elif what == "steer":
                session.steer(self.some_id(), "Do it well.")
            else:
                chosen = self.some_id()
                if what == "cancel" and chosen == session.id and number < 50:
                    return
                getattr(session, what)(chosen)
            self.done[what] += 1
        except UsageError:
            self.done["refused"] += 1

    def let_go(self):
        """Everything that is paused goes on."""
        self.session.resume(self.session.id)
        for item in self.session.items(limit=10_000):
            if item.state == "paused":
                self.session.resume(item.id)


async def handled(seed, done):
    dice = random.Random(seed)
    transport = ScriptedTransport(lambda *_: "yes", delay_s=lambda *_: dice.uniform(0.5, 10.0))
    async with VLLMPool([AgentEndpoint("a", 8000), AgentEndpoint("b", 8000)], transport=transport) as pool:
        agent = Agent(Model(backend=pool), name="worker")
        crew = [Moody(agent, dice) for _ in range(5)] if seed % 2 else None
        orchestrator = Orchestrator(agent, nodes=5, workers=crew, lease_s=8.0, max_attempts=6)
        async with orchestrator.open() as session:
            session.add_all(TaskSpec(id=f"t{n}", title="T", after=(f"t{n - 4}",) if n >= 4 else ()) for n in range(20))
            hands = Hands(session, dice, done)
            reading = asyncio.ensure_future(read(session))
            for number in range(80):
                hands.act(number)
                await asyncio.sleep(dice.choice([0.0, 0.1, 1.0, 6.0]))
            hands.let_go()
            seen = await reading
            seen |= {record.id: record async for record in session.results()}
            left = session.status()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return seen, session.records(), left


async def read(session):
    return {record.id: record async for record in session.results()}


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_whatever_is_done_to_a_run_every_task_ends(first):
    done, states = Counter(), Counter()
    for seed in range(first, first + 20):
        seen, records, left = run_virtual(handled(seed, done))
        assert {record.id: record.state for record in records} == {i: r.state for i, r in seen.items()}, f"seed {seed}"
        assert all(record.state in FINAL for record in records), f"seed {seed}"
        assert sum(left.tasks.values()) == len(records)
        states += Counter(record.state for record in records)
        for record in records:
            if record.state is TaskState.DONE:
                assert record.text == "yes"
            else:
                assert record.error.kind in {"task_cancelled", "worker_lost"}, f"seed {seed}"
    assert states[TaskState.DONE] > 200
    assert all(done[what] for what in ("pause", "resume", "requeue", "cancel", "steer", "scale", "add", "refused"))
