"""A tree of purses under random steps: no bound is ever exceeded, and all that was reserved is put back or booked."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import BudgetError, ConnectError, ConnectionLostError
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.reply import Reply, Usage

PLACE = AgentEndpoint("a", 8000)
PRICES = st.builds(
    Price,
    prompt=st.floats(0, 20),
    completion=st.floats(0, 60),
    cached=st.none() | st.floats(0, 40),
)
BUDGETS = st.builds(
    Budget,
    tokens=st.none() | st.integers(0, 5_000),
    usd=st.none() | st.floats(0, 0.05),
    wall_s=st.none() | st.floats(0, 100),
    tool_calls=st.none() | st.integers(0, 20),
    width=st.none() | st.integers(0, 4),
)


def tried(step, *bounds):
    """What a step gives; None when one of these bounds refuses it."""
    try:
        return step()
    except BudgetError as error:
        bound = error.bound
    assert bound in bounds
    return None


class BudgetTreeMachine(RuleBasedStateMachine):
    """Calls, tools and agents under way are kept in lists, with the purse that each went through."""

    @initialize(budget=BUDGETS, price=PRICES)
    def start(self, budget, price):
        self.now = 0.0
        self.purses = [Purse(budget, price, prompt_tokens=lambda call: len(call.messages[0].content))]
        self.calls, self.tools, self.agents = [], [], []

    def purse(self, place):
        return self.purses[place % len(self.purses)]

    @rule(place=st.integers(0, 9), budget=BUDGETS, price=st.none() | PRICES)
    def branch(self, place, budget, price):
        if len(self.purses) < 10:
            self.purses.append(Purse(budget, price, self.purse(place)))

    @rule(place=st.integers(0, 9))
    def enter(self, place):
        purse = self.purse(place)
        if tried(lambda: purse.enter(self.now) or True, "width", "wall_s"):
            self.agents.append(purse)

    @rule(which=st.integers(0, 99))
    def leave(self, which):
        if self.agents:
            self.agents.pop(which % len(self.agents)).leave()

    @rule(place=st.integers(0, 9), prompt=st.integers(1, 1_000), max_tokens=st.none() | st.integers(1, 2_000))
    def reserve(self, place, prompt, max_tokens):
        purse = self.purse(place)
        call = Call((Message("user", "x" * prompt),), sampling=Sampling(max_tokens=max_tokens))
        if reserved := tried(lambda: purse.reserve(call, self.now), "tokens", "usd", "wall_s"):
            granted, hold = reserved
            allowed = granted.sampling.max_tokens
            assert max_tokens is None or allowed <= max_tokens
            self.calls.append((purse, hold, prompt, 1_000 if allowed is None else allowed))

    @rule(which=st.integers(0, 99), share=st.floats(0, 1), cached=st.floats(0, 1), kind=st.integers(0, 4))
    def settle(self, which, share, cached, kind):
        if not self.calls:
            return
        purse, hold, prompt, allowed = self.calls.pop(which % len(self.calls))
        spent = purse.statistics().tokens
        reply = Reply("", usage=Usage(prompt, int(allowed * share), int(prompt * cached)))
        lost = Attempt(PLACE, ConnectionLostError("cut"), 0.1)
        refused = ConnectError("no")
        outcomes = (
            None,
            Outcome(reply, None, PLACE),
            Outcome(reply, None, PLACE, (lost,)),
            Outcome(None, lost.error, PLACE, (lost,)),
            Outcome(None, refused, PLACE, (Attempt(PLACE, refused, 0.1),)),
        )
        purse.settle(hold, outcomes[kind])
        least = (hold.amount.tokens, reply.usage.total_tokens, hold.amount.tokens, hold.amount.tokens, 0)[kind]
        assert purse.statistics().tokens == spent + least

    @rule(place=st.integers(0, 9), count=st.integers(1, 5))
    def reserve_tools(self, place, count):
        purse = self.purse(place)
        if hold := tried(lambda: purse.reserve_tools(count, self.now), "tool_calls", "wall_s"):
            self.tools.append((purse, hold, count))

    @rule(which=st.integers(0, 99), share=st.floats(0, 1))
    def settle_tools(self, which, share):
        if self.tools:
            purse, hold, count = self.tools.pop(which % len(self.tools))
            purse.settle_tools(hold, int(count * share))

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds):
        self.now += seconds

    @invariant()
    def nothing_is_overspent(self):
        for purse in self.purses:
            budget, has = purse.budget, purse.statistics()
            assert budget.tokens is None or has.tokens + has.reserved_tokens <= budget.tokens
            assert budget.usd is None or has.usd + has.reserved_usd <= budget.usd + 1e-12
            assert budget.tool_calls is None or has.tool_calls + has.reserved_tool_calls <= budget.tool_calls
            assert budget.width is None or has.agents <= budget.width

    @invariant()
    def what_is_under_way_is_reserved_in_every_purse_above_it(self):
        for purse in self.purses:
            has = purse.statistics()
            below = [(its, hold) for its, hold, *_ in (*self.calls, *self.tools) if purse in its.chain]
            assert has.reserved_tokens == sum(hold.amount.tokens for _, hold in below)
            assert has.reserved_tool_calls == sum(hold.amount.tool_calls for _, hold in below)
            assert has.agents == sum(purse in its.chain for its in self.agents)


BudgetTreeMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestBudgetTree = BudgetTreeMachine.TestCase
