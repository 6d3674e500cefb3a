"""A crew of which a fifth dies or stalls, in virtual time: every task is answered, and no prompt shows any of it."""

import asyncio
import random
import sys
import time
from collections import Counter, defaultdict

import pytest

from aurora_swarm import Budget, VLLMPool
from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import AgentTimeoutError, BudgetError, ServerError
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.work import TaskSpec, TaskState
from aurora_swarm.swarms.worker import Worker
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Reply, Usage

CANARY = "canary-7f3a"
WAYS = ("dies", "dies later", "stalls", "stalls later", "clings", "is cancelled", "returns junk", "fails")


class Frail(Worker):
    """A worker that breaks down, in one of many ways, when it is its turn."""

    def __init__(self, agent, dice, broken, *, share=1.0):
        super().__init__(agent)
        self._dice, self._broken, self._share = dice, broken, share

    async def work(self, assignment, mind, *, purse=None, rein=None):
        way = self._dice.choice(WAYS) if self._dice.random() < self._share else ""
        if way:
            self._broken[way] += 1
        if way in {"", "dies later", "stalls later", "fails"}:
            result = await super().work(assignment, mind, purse=purse, rein=rein)
        if way == "":
            return result
        if way.startswith("dies"):
            raise RuntimeError(CANARY)
        if way == "fails":
            return AgentResult(index=0, key="", ok=False, output=None, error=AgentTimeoutError(CANARY), text=CANARY)
        if way == "returns junk":
            return CANARY
        if way == "is cancelled":
            asyncio.current_task().cancel()
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            if way != "clings":
                raise
            await asyncio.sleep(2)
        return AgentResult(index=0, key="", ok=True, output=CANARY, error=None, text=CANARY)


def fleet(script, *, delay_s, size=4):
    transport = ScriptedTransport(script, delay_s=delay_s)
    return transport, VLLMPool([AgentEndpoint(f"node{i}", 8000) for i in range(size)], transport=transport)


def tasks_of(dice, count):
    """Tasks of which some build on earlier ones."""
    specs = []
    for number in range(count):
        after = tuple({f"t{dice.randrange(number)}" for _ in range(dice.choice([0, 0, 1, 2]))}) if number else ()
        skills = dice.choice([(), (), ("law",), ("art", "law")])
        specs.append(
            TaskSpec(
                id=f"t{number}", title=f"Task {number}", instructions=f"Do no. {number}.", after=after, skills=skills
            )
        )
    return specs


def answer(call, _endpoint):
    return Reply(f"answer of {call.messages[-1].content.rsplit('Do no. ', 1)[1]}", usage=Usage(10, 5))


async def broken_run(seed, broken):
    dice = random.Random(seed)

    def script(call, endpoint):
        if dice.random() < 0.05:
            return ServerError(CANARY)
        return answer(call, endpoint)

    transport, pool = fleet(script, delay_s=lambda *_: dice.uniform(0.1, 20.0))
    async with pool:
        agent = Agent(Model(backend=pool), name="worker", instructions="You work.")
        # A fifth breaks down each time, another fifth now and then.
        shares = [1.0, 0.3, 0.0, 0.0, 0.0] * 3
        crew = [Frail(agent, dice, broken, share=share) for share in shares]
        orchestrator = Orchestrator(agent, workers=crew, lease_s=30.0, max_attempts=8)
        specs = tasks_of(dice, 40)
        async with orchestrator.open() as session:
            session.add_all(specs)
            seen = [record async for record in session.results()]
            status = session.status()
        assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()
        return specs, seen, status, [call for _, call in transport.calls]


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_a_fifth_of_the_crew_dies_or_stalls_and_every_task_is_done_once(first):
    broken, attempts = Counter(), 0
    for seed in range(first, first + 20):
        specs, seen, status, calls = run_virtual(broken_run(seed, broken))
        assert Counter(record.id for record in seen) == Counter(spec.id for spec in specs), f"seed {seed}"
        assert status.tasks == {"done": len(specs)}, f"seed {seed}"
        for record in seen:
            assert record.text == f"answer of {record.id[1:]}.", f"seed {seed}"
        prompts = [message.content for call in calls for message in call.messages]
        assert not any(CANARY in prompt for prompt in prompts), f"seed {seed}"
        attempts += sum(record.attempts for record in seen)
    assert all(broken[way] for way in WAYS), "the pass would be empty"
    assert attempts > 20 * 40 * 1.05


def test_a_task_that_nobody_finishes_fails_and_those_that_build_on_it_are_cancelled():
    async def main():
        _, pool = fleet(answer, delay_s=1.0)
        async with pool:
            agent = Agent(Model(backend=pool), name="worker")
            crew = [Frail(agent, random.Random(number), Counter()) for number in range(5)]
            return await Orchestrator(agent, workers=crew, lease_s=5.0).run(tasks_of(random.Random(2), 30))

    records = run_virtual(main())
    assert {record.state for record in records} == {TaskState.FAILED, TaskState.CANCELLED}
    assert {record.error.kind for record in records} == {"worker_lost", "agent_timeout", "task_cancelled"}
    assert all(record.attempts == 3 for record in records if record.state is TaskState.FAILED)
    assert not any(record.text for record in records)


class Paced:
    """A worker of known speed and luck; asks nobody."""

    def __init__(self, name, seconds, *, luck=1.0, skills=(), better_at=None):
        self.id = self.name = name
        self.skills = frozenset(skills)
        self._seconds, self._luck, self._better_at = seconds, luck, better_at
        self._dice = random.Random(name)
        self.had = []

    async def work(self, assignment, mind, *, purse=None, rein=None):
        self.had.append(assignment.title)
        seconds = self._seconds * (0.1 if assignment.title == self._better_at else 1.0)
        await asyncio.sleep(seconds)
        ok = self._dice.random() < self._luck
        error = None if ok else AgentTimeoutError("no luck")
        return AgentResult(index=0, key="", ok=ok, output="yes", error=error, text="yes")


def crewed(workers, specs, *, every_s=0.0, **more):
    """Run tasks, one coming in each so many seconds."""

    async def main():
        _, pool = fleet(answer, delay_s=1.0)
        async with pool, Orchestrator(Model(backend=pool), workers=workers, **more).open() as session:
            for spec in specs:
                session.add(spec)
                await asyncio.sleep(every_s)
            return [record async for record in session.results()]

    return run_virtual(main())


def test_who_is_slow_gets_less_and_the_work_is_done_sooner_for_it():
    crew = [Paced("fast", 1.0), Paced("usual", 2.0), Paced("slow", 12.0)]
    records = crewed(crew, [TaskSpec(title=str(n)) for n in range(100)], every_s=1.0)
    assert all(record.ok for record in records)
    had = {worker.name: len(worker.had) for worker in crew}
    assert had["fast"] > had["usual"] > had["slow"] > 0
    assert had["slow"] <= 8


def test_who_fails_gets_less_and_is_looked_at_again():
    crew = [Paced(f"good{n}", 2.0) for n in range(3)] + [Paced("bad", 2.0, luck=0.2)]
    records = crewed(crew, [TaskSpec(title=str(n)) for n in range(200)], every_s=1.5, max_attempts=6)
    assert all(record.ok for record in records)
    had = Counter({worker.name: len(worker.had) for worker in crew})
    assert 3 <= had["bad"] <= 20
    assert min(had[f"good{n}"] for n in range(3)) > 2 * had["bad"]
    assert len(crew[3].had[3:]) > 0


def test_each_gets_what_it_has_shown_to_be_good_at():
    crew = [Paced("a", 4.0, better_at="sums"), Paced("b", 4.0, better_at="law")]
    titles = ["sums", "law"] * 60
    random.Random(3).shuffle(titles)
    crewed(crew, [TaskSpec(title=title, skills=(title,)) for title in titles], every_s=5.0)
    late = {worker.name: Counter(worker.had[len(worker.had) // 3 :]) for worker in crew}
    assert late["a"]["sums"] > 3 * late["a"]["law"]
    assert late["b"]["law"] > 3 * late["b"]["sums"]


def test_who_declares_all_skills_of_a_task_gets_it_even_if_it_has_to_wait():
    crew = [Paced("lawyer", 5.0, skills=("law",)), Paced("any1", 1.0), Paced("any2", 1.0)]
    specs = [TaskSpec(title=f"{'law' if n % 3 == 0 else 'any'}", skills=("law",) * (n % 3 == 0)) for n in range(30)]
    crewed(crew, specs)
    assert crew[0].had.count("law") == 10
    assert sum(len(worker.had) for worker in crew) == 30


def test_a_newcomer_gets_a_chance():
    async def main():
        _, pool = fleet(answer, delay_s=1.0)
        async with pool, Orchestrator(Model(backend=pool), nodes=3).open() as session:
            for number in range(40):
                session.add(TaskSpec(title="x", instructions=f"Do no. {number}."))
                await asyncio.sleep(0.9)
                session.scale(3 if number < 20 else 4)
                if number == 30:
                    session.add_all([TaskSpec(title="x", instructions=f"Do no. {n}.") for n in range(100, 108)])
            async for _ in session.results():
                pass
            return session.items(kind="worker")

    workers = run_virtual(main())
    assert len(workers) == 4
    assert workers[0].attempts >= 2


def test_spent_budgets_end_what_remains_and_every_task_reports():
    for seed in range(40):
        dice = random.Random(seed)
        wall_s = dice.choice([None, 9.0])
        budget = Budget(tokens=dice.choice([250, 400, 550]), width=dice.choice([None, 2]), wall_s=wall_s)
        above = Purse(Budget(tokens=dice.choice([300, 2_000]), width=dice.choice([None, 3])))

        async def main(dice=dice, budget=budget, above=above):
            _, pool = fleet(answer, delay_s=lambda *_: dice.uniform(0.1, 3.0))
            async with pool:
                model = Model(backend=pool, max_tokens=20)
                return await Orchestrator(model, nodes=6, budget=budget).run(tasks_of(dice, 40), purse=above)

        records = run_virtual(main())
        assert len(records) == 40
        left = above.statistics()
        assert left.tokens <= min(above.budget.tokens, budget.tokens)
        assert (left.reserved_tokens, left.agents) == (0, 0)
        failed = [record for record in records if record.state is TaskState.FAILED]
        assert failed, "the pass would be empty"
        assert all(isinstance(record.error, BudgetError) for record in failed)
        assert all(record.error.kind == "task_cancelled" for record in records if record.state is TaskState.CANCELLED)


def test_no_more_agents_are_under_way_than_a_purse_allows_to_all_beneath_it():
    async def main():
        _, pool = fleet(answer, delay_s=1.0)
        purse = Purse(Budget(width=3))
        async with pool:
            model = Model(backend=pool)
            runs = [Orchestrator(model, nodes=6).run(tasks_of(random.Random(n), 10), purse=purse) for n in range(3)]
            return await asyncio.gather(*runs)

    assert all(record.ok for records in run_virtual(main()) for record in records)


def test_a_lease_lasts_while_a_call_or_a_queue_of_calls_makes_progress():
    """One slot for 30 workers: the last one waits far longer than its lease, and nobody is taken for dead."""

    async def main():
        transport = ScriptedTransport(answer, delay_s=10.0)
        async with VLLMPool([AgentEndpoint("one", 8000)], transport=transport, concurrency=1) as pool:
            orchestrator = Orchestrator(Model(backend=pool), nodes=30, lease_s=15.0)
            return await orchestrator.run(tasks_of(random.Random(0), 60))

    records = run_virtual(main())
    assert [record.attempts for record in records] == [1] * 60


def test_a_call_that_takes_far_longer_than_others_is_given_to_another_worker():
    calls = defaultdict(int)

    def delay(call, _endpoint):
        text = call.messages[-1].content
        calls[text] += 1
        return 200.0 if text.endswith("no. 7.") and calls[text] == 1 else 2.0

    async def main():
        transport = ScriptedTransport(answer, delay_s=delay)
        async with VLLMPool([AgentEndpoint("one", 8000)], transport=transport) as pool:
            orchestrator = Orchestrator(Model(backend=pool), nodes=5, lease_s=15.0)
            async with orchestrator.open() as session:
                session.add_all(TaskSpec(title=str(n), instructions=f"Do no. {n}.") for n in range(40))
                records = [record async for record in session.results()]
                return records, asyncio.get_running_loop().time()

    records, seconds = run_virtual(main())
    assert all(record.ok for record in records)
    assert seconds < 60


class Quick:
    """A worker that takes some time and now and then fails; asks nobody."""

    skills = frozenset()

    def __init__(self, name, dice):
        self.id = self.name = name
        self._dice = dice

    async def work(self, assignment, mind, *, purse=None, rein=None):
        await asyncio.sleep(self._dice.uniform(1, 5))
        ok = self._dice.random() < 0.95
        error = None if ok else AgentTimeoutError("no luck")
        return AgentResult(index=0, key="", ok=ok, output="yes", error=error, text="yes")


def large_run(n_tasks, n_workers):
    dice = random.Random(1)
    specs = [
        TaskSpec(
            id=f"t{n}",
            title=str(n),
            skills=(f"s{n % 7}",) if n % 2 else (),
            after=(f"t{n - 9}",) if n % 10 == 9 else (),
            priority=n % 3,
        )
        for n in range(n_tasks)
    ]

    async def main():
        _, pool = fleet(answer, delay_s=1.0)
        crew = [Quick(f"w{n}", dice) for n in range(n_workers)]
        async with pool, Orchestrator(Model(backend=pool), workers=crew, max_attempts=9).open() as session:
            session.add_all(specs)
            return [record.ok async for record in session.results()]

    return run_virtual(main())


def test_ten_thousand_tasks_over_a_thousand_workers_take_seconds():
    began = time.perf_counter()
    assert large_run(10_000, 1_000) == [True] * 10_000
    seconds = time.perf_counter() - began
    assert seconds < 60, f"{seconds:.1f} s"


def test_the_work_for_a_task_does_not_grow_with_their_number():
    """Lines of the society's own code that are executed for a task; a loop over all tasks or workers would show."""

    def lines_for(n_tasks, n_workers):
        lines = 0

        def count(frame, event, _):
            nonlocal lines
            if "/swarms/" not in frame.f_code.co_filename:
                return None
            lines += event == "line"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            assert all(large_run(n_tasks, n_workers))
        finally:
            sys.settrace(before)
        return lines / n_tasks

    few, many = lines_for(200, 20), lines_for(2_000, 200)
    assert many < 1.2 * few, f"lines for a task: {few:.0f} of 200, {many:.0f} of 2,000"
