"""A swarm of which a fifth of the workers dies or stalls, in virtual time: its objective is answered all the same.

Every answer carries a mark of its own, whoever merges answers repeats all marks that it was given, and every failure
carries a canary. So an answer that is lost, that is taken in twice, or that is made of an error, shows.
"""

import asyncio
import json
import random
import re
from collections import Counter

import pytest

from aurora_swarm import Budget, VLLMPool
from aurora_swarm.errors import AgentTimeoutError, ServerError
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.briefs import PLANNER, REVIEWER
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.swarm import Swarm
from aurora_swarm.swarms.worker import Worker
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import EndpointInfo, Reply, Usage

CANARY = "canary-7f3a"
WAYS = ("dies", "dies later", "stalls", "fails")
MARK = re.compile(r"<[\w.]+>")


class Frail(Worker):
    """A worker that may break down each time that it is given a task.

    Args:
        agent: As for a worker.
        dice: Whether and how.
        share: How often.
        broken: Counts.
    """

    def __init__(self, agent, dice, share, broken):
        super().__init__(agent)
        self._dice, self._share, self._broken = dice, share, broken

    async def work(self, assignment, mind, *, purse=None, rein=None):
        way = self._dice.choice(WAYS) if self._dice.random() < self._share else ""
        if way:
            self._broken[way] += 1
        if way in {"", "dies later"}:
            result = await super().work(assignment, mind, purse=purse, rein=rein)
            if not way:
                return result
        if way == "stalls":
            await asyncio.sleep(1e5)
        if way == "fails":
            return AgentResult(index=0, key="", ok=False, output=None, error=AgentTimeoutError(CANARY), text=CANARY)
        raise RuntimeError(CANARY)


class Accountable:
    """Plans, reviews, works and merges; what it is told and what it says can be accounted for.

    Args:
        dice: What it plans, and how long it takes.
    """

    def __init__(self, dice):
        self.dice = dice
        self.prompts = []

    def __call__(self, call, _endpoint):
        self.prompts += [message.content for message in call.messages]
        if self.dice.random() < 0.05:
            return ServerError(CANARY)
        return Reply(self.answer(call), usage=Usage(100, 20))

    def answer(self, call):
        system, prompt = call.messages[0].content, call.messages[-1].content
        if system.startswith(PLANNER):
            return json.dumps({"tasks": [self.task(f"t{n}", n) for n in range(self.dice.randint(3, 12))]})
        if system.startswith(REVIEWER):
            parent = re.search(r"=== result ===\n(.*)", prompt)[1]
            return json.dumps({"tasks": [self.further(f"{parent}.{n}") for n in range(self.dice.choice([0, 0, 1, 2]))]})
        if "=== answer 1 ===" in prompt:
            return " ".join(MARK.findall(prompt))
        return f"<{re.search(r'Task: (.*)', prompt)[1]}>"

    def task(self, title, number):
        after = self.dice.sample(range(1, number + 1), min(number, self.dice.choice([0, 0, 1, 2]))) if number else []
        return self.further(title) | {"after": after}

    def further(self, title):
        return {"title": title, "instructions": f"Do {title} " + "well " * self.dice.randint(0, 9)}


async def pursue(seed, broken, *, budget=None):
    dice = random.Random(seed)
    model = Accountable(dice)
    info = EndpointInfo(models=("m",), max_context=dice.choice([1_024, 8_192]))
    transport = ScriptedTransport(model, delay_s=lambda *_: dice.uniform(0.1, 20.0), batches=False, info=info)
    async with VLLMPool([AgentEndpoint(f"node{n}", 8000) for n in range(4)], "m", transport=transport) as pool:
        agent = Agent(Model(backend=pool), name="worker", instructions="You work.")
        crew = [Frail(agent, dice, 1.0 if n % 5 == 0 else 0.05, broken) for n in range(15)]
        orchestrator = Orchestrator(agent, workers=crew, lease_s=30.0, max_attempts=8)
        outcome = await Swarm(orchestrator, objective="Win.", max_tasks=30, budget=budget).run()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return outcome, model


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_a_fifth_of_the_workers_dies_or_stalls_and_the_objective_is_answered_with_every_task_once(first):
    broken, tasks, attempts = Counter(), 0, 0
    for seed in range(first, first + 20):
        outcome, model = run_virtual(pursue(seed, broken))
        assert outcome.error is None, f"seed {seed}: {outcome.error}"
        assert [record.spec.title for record in outcome.tasks if not record.ok] == [], f"seed {seed}"
        taken_in = Counter(MARK.findall(outcome.answer))
        assert taken_in == Counter(f"<{record.spec.title}>" for record in outcome.tasks), f"seed {seed}"
        assert not any(CANARY in prompt for prompt in model.prompts), f"seed {seed}"
        tasks += len(outcome.tasks)
        attempts += sum(record.attempts for record in outcome.tasks)
    assert all(broken[way] for way in WAYS), "the pass would be empty"
    assert attempts > tasks * 1.05


@pytest.mark.parametrize("tokens", [2_000, 10_000, 40_000])
def test_whatever_dies_no_budget_is_overspent_and_what_is_missing_is_named(tokens):
    for seed in range(200, 215):
        outcome, model = run_virtual(pursue(seed, Counter(), budget=Budget(tokens=tokens)))
        assert outcome.usage.total_tokens <= tokens, f"seed {seed}"
        if outcome.ok:
            done = Counter(f"<{record.spec.title}>" for record in outcome.tasks if record.ok)
            assert Counter(MARK.findall(outcome.answer)) == done, f"seed {seed}"
            named = [note for note in outcome.notes if note.startswith("not in the answer")]
            assert len(named) == outcome.n_failed, f"seed {seed}"
        else:
            assert outcome.error.kind in {"budget", "quorum", "plan"}, f"seed {seed}"
        assert not any(CANARY in prompt for prompt in model.prompts), f"seed {seed}"


class Endless(Accountable):
    """Finds two further tasks in every result; each of its texts is of one length."""

    def answer(self, call):
        if call.messages[0].content.startswith(PLANNER):
            return json.dumps({"tasks": [self.named() | {"after": []} for _ in range(4)]})
        if call.messages[0].content.startswith(REVIEWER):
            return json.dumps({"tasks": [self.named() for _ in range(2)]})
        return "done" * 20

    def named(self):
        return {"title": f"{self.dice.getrandbits(60):020d}", "instructions": f"{self.dice.getrandbits(60):020d}"}


@pytest.mark.parametrize("nodes", [8, 512])
def test_what_one_worker_is_told_does_not_grow_with_the_swarm(nodes):
    """And what a planner is told does not either, once there are more tasks than it is told of."""

    async def main():
        model = Endless(random.Random(nodes))
        transport = ScriptedTransport(model, delay_s=1.0, batches=False)
        async with VLLMPool([AgentEndpoint("n", 8000)], "m", transport=transport, concurrency=2_000) as pool:
            orchestrator = Orchestrator(Model(backend=pool), nodes)
            swarm = Swarm(orchestrator, objective="Win.", max_tasks=2 * nodes, max_depth=99, consolidate="Merge {n}.")
            outcome = await swarm.run()
        told = [(call.messages[0].content, call.messages[-1].content) for _, call in transport.calls]
        work = {len(prompt) for _, prompt in told if "Task: " in prompt}
        reviews = max(len(prompt) for system, prompt in told if system.startswith(REVIEWER))
        return len(outcome.tasks), sorted(work), reviews

    count, work, reviews = run_virtual(main())
    assert count == 2 * nodes
    assert work == [134, 303]  # of the plan; and with the one result that it builds on
    assert reviews < 1_500
