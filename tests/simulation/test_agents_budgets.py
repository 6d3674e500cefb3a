"""1,000 random trees of agents, each with its budget: whatever fails, hangs or is cancelled, nothing is overspent.

What was spent is counted by the servers and tools themselves, not by the purses that are tested.
"""

import asyncio
import random
from collections import Counter

import pytest

from aurora_swarm import Tool
from aurora_swarm.agents.budgets import Purse, most_prompt_tokens
from aurora_swarm.agents.driver import Task, ToolReport, run_agent
from aurora_swarm.agents.native import NativeTools
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules
from aurora_swarm.errors import BudgetError, ConnectError, ConnectionLostError, OverloadedError
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.reply import Reply, Usage

TREES = 1_000
MAX_DEPTH = 3
PLACE = AgentEndpoint("a", 8000)
TEXT = OutputSpec(None)


@Tool.define(effect="effect")
def search(what: str) -> str:
    """Search."""
    return what


@Tool.define(effect="effect")
def delegate(what: str) -> str:
    """Have an agent of your own do it."""
    return what


PROTOCOL = NativeTools([search, delegate], TEXT)


class Bill:
    """What one purse's part of the tree has really taken."""

    def __init__(self, purse, above):
        self.purse = purse
        self.chain = (self, *above.chain) if above is not None else (self,)
        self.tokens = self.tools = self.agents = self.most_agents = 0
        self.usd = 0.0
        self.began_s = self.last_s = None

    def add(self, *, tokens=0, usd=0.0, tools=0):
        for bill in self.chain:
            bill.tokens += tokens
            bill.usd += usd
            bill.tools += tools
            bill.last_s = asyncio.get_running_loop().time()

    def enter(self, sign):
        for bill in self.chain:
            bill.agents += sign
            bill.most_agents = max(bill.agents, bill.most_agents)
            if bill.began_s is None:
                bill.began_s = asyncio.get_running_loop().time()

    def check(self):
        budget, has = self.purse.budget, self.purse.statistics()
        assert budget.tokens is None or self.tokens <= has.tokens <= budget.tokens
        assert budget.usd is None or self.usd <= has.usd + 1e-12 <= budget.usd + 2e-12
        assert budget.tool_calls is None or self.tools <= has.tool_calls <= budget.tool_calls
        assert budget.width is None or self.most_agents <= budget.width
        if budget.wall_s is not None and self.last_s is not None:
            assert self.last_s <= self.began_s + budget.wall_s + 1e-6
        assert (has.reserved_tokens, has.reserved_usd, has.reserved_tool_calls, has.agents) == (0, 0, 0, 0)


class Tree:
    """One tree of agents, on servers and tools that misbehave."""

    def __init__(self, seed, seen):
        self.dice = random.Random(seed)
        self.seen = seen
        self.price = Price(prompt=self.dice.random() * 5, completion=self.dice.random() * 20, cached=self.dice.random())
        self.bills = []
        self.started = self.reported = 0

    def budget(self):
        dice = self.dice
        return Budget(
            tokens=dice.choice([None, None, 2_000, 20_000, 80_000]),
            usd=dice.choice([None, None, 0.01, 0.1, 0.5]),
            wall_s=dice.choice([None, None, None, 3.0, 20.0]),
            tool_calls=dice.choice([None, None, 4, 20]),
            width=dice.choice([None, None, None, 3, 12]),
        )

    def bill(self, above):
        parent = above.purse if above is not None else None
        price = self.price if parent is None or self.dice.random() < 0.3 else None
        bill = Bill(Purse(self.budget(), price, parent), above)
        self.bills.append(bill)
        return bill

    # -- the world -----------------------------------------------------------------------------------------------

    async def ask(self, call, bill):
        dice = self.dice
        outcome = dice.choices(["ok", "cut", "no", "busy before"], [80, 6, 6, 8])[0]
        if outcome == "no":
            error = ConnectError("refused")
            return Outcome(None, error, PLACE, (Attempt(PLACE, error, 0.0),))
        prompt = dice.choice([most_prompt_tokens(call), most_prompt_tokens(call) // 4])
        most = 2_000 if call.sampling.max_tokens is None else call.sampling.max_tokens
        completion = most if dice.random() < 0.2 else dice.randrange(most + 1)
        cached = dice.randrange(prompt + 1)
        usage = Usage(prompt, completion, cached)
        # The server works, and is paid, from the beginning on: whoever leaves early has paid already.
        bill.add(tokens=usage.total_tokens, usd=bill.purse.price.of(usage))
        await asyncio.sleep(dice.choice([0.0, 0.1, 1.0, 5.0]))
        if outcome == "cut":
            error = ConnectionLostError("cut")
            return Outcome(None, error, PLACE, (Attempt(PLACE, error, 0.0),))
        before = (Attempt(PLACE, OverloadedError("busy"), 0.0),) if outcome == "busy before" else ()
        return Outcome(self.reply(call, usage), None, PLACE, before)

    def reply(self, call, usage):
        if call.tool_choice == "none" or not call.tools or self.dice.random() < 0.4:
            return Reply("done", usage=usage)
        names = self.dice.choices(["search", "delegate"], k=self.dice.choice([1, 1, 3]))
        calls = tuple(ToolCall(f"c{place}", name, {"what": "it"}) for place, name in enumerate(names))
        return Reply("", "tool_calls", usage, tool_calls=calls)

    async def use(self, call, bill, depth):
        if call.name == "delegate" and depth < MAX_DEPTH:
            bill.add(tools=1)
            result = await self.agent(self.bill(bill) if self.dice.random() < 0.7 else bill, depth + 1)
            return ToolReport(result.text or str(result.error), executed=True)
        if self.dice.random() < 0.3:
            return ToolReport("shared", executed=False)
        bill.add(tools=1)
        await asyncio.sleep(self.dice.choice([0.0, 0.5]))
        return ToolReport("found", executed=True)

    # -- the agents ----------------------------------------------------------------------------------------------

    async def agent(self, bill, depth):
        self.started += 1
        entered = False

        async def ask(call):
            nonlocal entered
            if not entered:
                entered = True
                bill.enter(1)
            return await self.ask(call, bill)

        async def use(call, again):
            return await self.use(call, bill, depth)

        task = Task(
            index=self.started,
            key=str(self.started),
            messages=(Message("user", "do it " * self.dice.choice([1, 50])),),
            rules=Rules(output=TEXT, protocol=PROTOCOL, max_turns=4, max_parallel=2),
            sampling=Sampling(max_tokens=self.dice.choice([None, 20, 300])),
            turn_timeout_s=self.dice.choice([None, 2.0]),
        )
        try:
            result = await run_agent(task, ask, use, purse=bill.purse)
        except asyncio.CancelledError:
            self.reported += 1
            self.seen["cancelled"] += 1
            raise
        finally:
            if entered:
                bill.enter(-1)
        self.reported += 1
        error = result.error
        self.seen[error.bound if isinstance(error, BudgetError) else type(error).__name__] += 1
        assert result.ok == (error is None)
        return result

    async def live(self):
        root = self.bill(None)
        agents = [asyncio.create_task(self.agent(root, 0)) for _ in range(self.dice.choice([1, 3, 10]))]
        if self.dice.random() < 0.2:
            await asyncio.sleep(self.dice.random() * 3)
            agents[0].cancel()
        await asyncio.wait(agents)
        assert all(agent.cancelled() or agent.result() for agent in agents)
        assert self.reported == self.started
        for bill in self.bills:
            bill.check()


@pytest.mark.parametrize("part", range(4))
def test_no_tree_of_agents_overspends_and_every_started_agent_reports(part):
    seen = Counter()

    async def main():
        for seed in range(part * TREES // 4, (part + 1) * TREES // 4):
            try:
                await Tree(seed, seen).live()
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise

    run_virtual(main())
    least = {"NoneType": 300, "tokens": 100, "usd": 50, "tool_calls": 50, "wall_s": 50, "width": 50, "cancelled": 20,
             "ConnectionLostError": 30, "AgentTimeoutError": 30}  # fmt: skip
    assert all(seen[what] >= count for what, count in least.items()), seen
