"""1,000 random trees of hiveminds, some of their swarms elsewhere: whatever fails, is lost or cancelled, no budget is
overspent, and every agent that was started reports.

What was spent is counted by the servers themselves, for every purse of the tree, also when a swarm elsewhere goes on
after its hivemind has given it up.
"""

import asyncio
import json
import random
from collections import Counter
from contextlib import asynccontextmanager
from contextvars import ContextVar

import msgspec
import pytest

from aurora_swarm.agents.budgets import Purse, most_prompt_tokens
from aurora_swarm.agents.driver import Task, run_agent
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules
from aurora_swarm.errors import AgentError, BudgetError, ConnectError, ConnectionLostError, MemberLostError
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.swarms.hivemind import Hivemind
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.remote import Card, Errand, RemoteSwarm, carry_out
from aurora_swarm.swarms.work import SwarmOutcome
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.reply import Reply, Usage

TREES = 1_000
PLACE = AgentEndpoint("a", 8000)
TEXT = OutputSpec(None)

ABOVE: ContextVar[tuple[Purse, ...]] = ContextVar("ABOVE", default=())
"""Purses of other sites that pay for what is done here."""


class Bills:
    """What the part of the tree below each purse has really taken."""

    def __init__(self, root):
        self.root = root
        self.purses = {id(root): root}
        self.tokens = Counter()
        self.usd = Counter()

    def add(self, purse, usage):
        payers = {id(each): each for each in (*purse.chain, *ABOVE.get(), self.root)}  # the root pays for all of it
        self.purses |= payers
        for each in payers.values():
            self.tokens[id(each)] += usage.total_tokens
            self.usd[id(each)] += each.price.of(usage) if each.price else 0.0

    def check(self):
        for key, purse in self.purses.items():
            budget, has = purse.budget, purse.statistics()
            assert self.tokens[key] <= has.tokens or not is_bounded(purse)
            assert budget.tokens is None or has.tokens <= budget.tokens
            assert budget.usd is None or self.usd[key] <= has.usd + 1e-9 <= budget.usd + 2e-9
            assert (has.reserved_tokens, has.reserved_usd, has.agents) == (0, 0, 0)


def is_bounded(purse):
    """Whether something in or above it is counted in advance; a swarm elsewhere is not, where nothing is bounded."""
    return any(each.budget.tokens is not None or each.budget.usd is not None for each in purse.chain)


class Tree:
    """One tree, on servers, links and swarms that misbehave."""

    def __init__(self, seed, seen):
        self.dice = random.Random(seed)
        self.seen = seen
        self.price = Price(
            self.dice.random() * 5, self.dice.random() * 20, self.dice.choice([None, self.dice.random()])
        )
        self.root = Purse(self.budget(), self.price)
        self.bills = Bills(self.root)
        self.started = self.reported = 0
        self.elsewhere = set()
        self.replies = {}

    def budget(self):
        dice = self.dice
        return Budget(
            tokens=dice.choice([None, 5_000, 20_000, 80_000]),
            usd=dice.choice([None, None, 0.05, 0.5]),
            wall_s=dice.choice([None, None, None, 5.0, 30.0]),
        )

    # -- servers ---------------------------------------------------------------------------------------------------

    def usage(self, call):
        """A server is paid from the beginning on: whoever leaves early has paid already."""
        prompt = self.dice.choice([most_prompt_tokens(call), most_prompt_tokens(call) // 4])
        most = 2_000 if call.sampling.max_tokens is None else call.sampling.max_tokens
        return Usage(prompt, self.dice.randint(0, most), self.dice.randint(0, prompt))

    async def ask(self, call, purse):
        outcome = self.dice.choices(["ok", "cut", "no"], [80, 10, 10])[0]
        if outcome == "no":
            return failed(ConnectError("refused"))
        usage = self.usage(call)
        self.bills.add(purse, usage)
        await asyncio.sleep(self.dice.choice([0.0, 0.1, 1.0, 5.0]))
        if outcome == "cut":
            return failed(ConnectionLostError("cut"))
        return Outcome(Reply("done", usage=usage), None, PLACE)

    def delay(self, call, _):
        """For the hiveminds' own calls: decide, bill, and say when the answer comes."""
        answer = ConnectError("refused")
        if self.dice.random() < 0.9:
            usage = self.usage(call)
            self.bills.add(self.bills.purses[int(call.agent)], usage)
            answer = Reply(self.plan() if call.schema else "all of it", usage=usage)
        self.replies[id(call)] = answer
        return self.dice.choice([0.0, 0.5, 2.0])

    def plan(self):
        if self.dice.random() < 0.1:
            return "no plan"
        count = self.dice.randint(1, 4)
        tasks = [
            {"title": f"t{n}", "instructions": f"do {n}", "swarms": [], "priority": self.dice.choice(["high", "low"]),
             "after": [1] if n > 1 and self.dice.random() < 0.2 else []}
            for n in range(1, count + 1)
        ]  # fmt: skip
        return json.dumps({"tasks": tasks})

    # -- swarms ----------------------------------------------------------------------------------------------------

    def member(self, depth):
        kind = self.dice.choices(["crew", "far", "hive"], [5, 3, 2 if depth < 2 else 0])[0]
        if kind == "hive":
            return self.hive(depth + 1)
        return Crew(self) if kind == "crew" else Far(self, self.member(depth + 1))

    def hive(self, depth):
        members = [self.member(depth) for _ in range(self.dice.randint(1, 4))]
        return Hivemind(
            members,
            model=Billed(self),
            budget=self.budget() if self.dice.random() < 0.7 else None,
            price=self.price,
            per_member=self.budget() if self.dice.random() < 0.2 else None,
            patience=self.dice.choice([0.5, 3.0]),
            max_rounds=self.dice.choice([1, 1, 2]),
        )

    async def agent(self, purse):
        self.started += 1
        task = Task(
            index=self.started,
            key=str(self.started),
            messages=(Message("user", "do it " * self.dice.choice([1, 50])),),
            rules=Rules(output=TEXT, max_turns=2),
            sampling=Sampling(max_tokens=self.dice.choice([None, 20, 300])),
            timeout_s=self.dice.choice([None, 2.0]),
        )
        try:
            result = await run_agent(task, lambda call: self.ask(call, purse), None, purse=purse)
        except asyncio.CancelledError:
            self.reported += 1
            self.seen["cancelled"] += 1
            raise
        self.reported += 1
        self.seen[result.error.bound if isinstance(result.error, BudgetError) else type(result.error).__name__] += 1
        return result

    async def live(self):
        transport = ScriptedTransport(lambda call, _: self.replies.pop(id(call)), delay_s=self.delay)
        async with VLLMPool([PLACE], "m", transport=transport) as self.pool:
            self.tools = ToolPool()
            run = asyncio.create_task(self.hive(0).run("a great objective", purse=self.root))
            if self.dice.random() < 0.2:
                await asyncio.sleep(self.dice.random() * 10)
                run.cancel()
            await asyncio.wait([run])
            if run.cancelled():
                self.seen["tree cancelled"] += 1
            else:
                self.seen["tree ok" if run.result().ok else "tree failed"] += 1
                assert run.result().ok == bool(run.result().answer)
            while going_on := [work for work in self.elsewhere if not work.done()]:
                await asyncio.wait(going_on)
            await self.tools.aclose()
        assert self.reported == self.started
        self.bills.check()


def failed(error):
    return Outcome(None, error, PLACE, (Attempt(PLACE, error, 0.0),))


class Billed(Model):
    """A model whose calls are billed to the purse that pays for them."""

    def __init__(self, tree):
        super().__init__(price=tree.price)
        self.tree = tree

    @asynccontextmanager
    async def opened(self):
        yield BilledMind(self.tree)


class BilledMind(Mind):
    def __init__(self, tree):
        super().__init__(tree.pool, tree.tools, model="m")
        self.tree = tree

    async def think(self, thought, *, purse=None, rein=None):
        self.tree.bills.purses[id(purse)] = purse
        return await super().think(thought, purse=purse, rein=lambda call: signed(call, purse))


async def signed(call, purse):
    return msgspec.structs.replace(call, agent=str(id(purse)))


class Crew:
    """A swarm of agents that run at the same time."""

    about = "does things"

    def __init__(self, tree):
        self.tree = tree
        self.name = f"crew{tree.dice.random()}"

    async def run(self, objective=None, *, purse=None, context=""):
        dice = self.tree.dice
        async with asyncio.TaskGroup() as group:
            agents = [group.create_task(self.tree.agent(purse)) for _ in range(dice.choice([1, 3, 8]))]
        results = [agent.result() for agent in agents]
        if dice.random() < 0.1:
            raise dice.choice([RuntimeError("a mistake"), AgentError("no"), MemberLostError("gone")])
        usage = sum((result.usage for result in results), Usage())
        answer = "".join(result.text for result in results if result.ok)
        error = None if answer else AgentError("no agent has an answer")
        return SwarmOutcome(objective=objective or "", answer=answer, error=error, usage=usage)


class Far(RemoteSwarm):
    """A swarm elsewhere, behind a link that fails."""

    def __init__(self, tree, member):
        super().__init__("a2a://far:1", name=f"far{tree.dice.random()}", link=Line(tree, member))

    async def run(self, objective=None, *, purse=None, context=""):
        token = ABOVE.set((*ABOVE.get(), *purse.chain))
        try:
            return await super().run(objective, purse=purse, context=context)
        finally:
            ABOVE.reset(token)


class Line:
    """A link to the other end in the same process, which may break while the other end goes on."""

    def __init__(self, tree, member):
        self.tree = tree
        self.member = member

    async def introduce(self):
        if self.tree.dice.random() < 0.05:
            raise MemberLostError("nobody listens")
        return Card("far", "does things far away")

    async def carry_out(self, order, errand):
        dice, told = self.tree.dice, Errand()
        if dice.random() < 0.05:
            raise MemberLostError("nobody listens any more")
        errand.begun = True
        work = asyncio.create_task(carry_out(self.member, order, told=told))
        self.tree.elsewhere.add(work)
        breaks_after = dice.choice([None, None, 0.0, 1.0, 5.0])
        try:
            await asyncio.wait([work], timeout=breaks_after)
        except asyncio.CancelledError:
            if dice.random() < 0.5:
                work.cancel()
                await asyncio.wait([work])
                errand.spent = told.spent
            raise
        if not work.done():
            self.tree.seen["lost"] += 1
            raise MemberLostError("the connection was lost")
        return work.result()


@pytest.mark.parametrize("part", range(4))
def test_no_tree_of_hiveminds_overspends_and_every_started_agent_reports(part, monkeypatch):
    # That the schema of a plan is one is tested elsewhere; it would take three quarters of the time.
    monkeypatch.setattr("aurora_swarm.agents.structured.check_schema", lambda schema: None)
    seen = Counter()

    async def main():
        for seed in range(part * TREES // 4, (part + 1) * TREES // 4):
            try:
                await Tree(seed, seen).live()
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise

    run_virtual(main())
    least = {
        "tree ok": 100, "tree failed": 30, "tree cancelled": 10, "lost": 80, "NoneType": 800, "tokens": 400, "usd": 40,
        "wall_s": 300, "cancelled": 150, "ConnectionLostError": 100, "AgentTimeoutError": 300,
    }  # fmt: skip
    assert all(seen[what] >= count for what, count in least.items()), seen
