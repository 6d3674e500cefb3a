"""Budgets for retries and hedges: never more than share and floor, and never refused while something is left."""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aurora_swarm.dispatch.budget import RetryBudget
from aurora_swarm.dispatch.hedging import ENOUGH, Flights, Pace
from aurora_swarm.values.policy import HedgePolicy, RetryPolicy


class RetryBudgetMachine(RuleBasedStateMachine):
    @initialize(ratio=st.floats(0.0, 1.0), floor=st.integers(0, 5))
    def start(self, ratio, floor):
        self.budget = RetryBudget(RetryPolicy(budget_ratio=ratio, budget_floor=floor))
        self.ratio, self.floor = ratio, floor
        self.calls = self.spent = 0

    @rule(times=st.integers(1, 20))
    def call(self, times):
        for _ in range(times):
            self.budget.note_call()
        self.calls += times

    @rule()
    def spend(self):
        left = self.spent < self.floor + self.ratio * self.calls
        assert self.budget.spend() == left
        self.spent += left

    @invariant()
    def the_share_is_never_exceeded(self):
        assert (self.budget.calls, self.budget.retries) == (self.calls, self.spent)
        assert self.spent < self.floor + self.ratio * self.calls + 1 + 1e-9


class Flight:
    def __init__(self, index, began):
        self.index, self.began, self.patient = index, began, False


class HedgingMachine(RuleBasedStateMachine):
    """Attempts come and go; the model keeps them in one list with what was said of them."""

    SIZE = 3

    @initialize(floor=st.integers(0, 3), ratio=st.floats(0.0, 0.3))
    def start(self, floor, ratio):
        self.policy = HedgePolicy(budget_floor=floor, budget_ratio=ratio, move_ratio=ratio, floor_s=0.0)
        self.pace = Pace(self.SIZE, self.policy)
        self.loads = [0] * self.SIZE
        self.flights = Flights(self.pace, self.policy, self.loads)
        self.now = 0.0
        self.flying: list[Flight] = []
        self.named: set[Flight] = set()
        self.past: set[Flight] = set()  # once late, always late, even if late comes to mean later
        for number in range(ENOUGH):
            self.pace.answered(number % self.SIZE, 1.0, 0.0)

    @rule(index=st.integers(0, 2), times=st.integers(1, 5))
    def send(self, index, times):
        for _ in range(times):
            flight = Flight(index, self.now)
            self.flights.calls += 1
            self.flights.add(flight)
            self.flying.append(flight)
            self.loads[index] += 1

    @rule(place=st.integers(0, 50))
    def end(self, place):
        if self.flying:
            flight = self.flying.pop(place % len(self.flying))
            self.flights.remove(flight)
            self.loads[flight.index] -= 1
            self.pace.answered(flight.index, max(self.now - flight.began, 0.01), self.now)

    @rule(seconds=st.floats(0.0, 4.0))
    def time_passes(self, seconds):
        self.now += seconds

    def name(self, flights):
        for flight in flights:
            assert flight in self.flying
            assert flight not in self.named, "an attempt gets one rival"
            self.named.add(flight)

    @rule(idle=st.booleans())
    def overdue(self, idle):
        self.past |= {f for f in self.flying if f.began + self.pace.overdue_s <= self.now}
        newest = max((f.began for f in self.flying if f not in self.named), default=0.0)
        for flight in (named := self.flights.overdue(self.now, idle=idle)):
            assert flight.began + self.pace.suspect_s <= self.now
            if flight.began + self.pace.overdue_s > self.now:
                stopped = self.loads[flight.index] > 1 and self.pace.last_answer[flight.index] < flight.began
                assert stopped or (idle and newest + self.pace.suspect_s <= self.now)
        self.name(named)

    @rule()
    def silent(self):
        named = self.flights.silent(self.now)
        limit_s = self.policy.silence * self.pace.overdue_s
        for flight in named:
            assert flight.began + limit_s <= self.now
            assert self.pace.last_answer[flight.index] < flight.began
        self.name(named)

    @rule(places=st.lists(st.integers(0, 2), max_size=4), forbidden=st.integers(0, 2))
    def movable(self, places, forbidden):
        idle = Counter(places).items()
        pairs = self.flights.movable(self.now, lambda: idle, lambda _flight, index: index != forbidden)
        assert all(index in places and index != forbidden for _, index in pairs)
        for index in set(places):
            assert sum(chosen == index for _, chosen in pairs) <= places.count(index)
        self.name([flight for flight, _ in pairs])

    @invariant()
    def the_share_is_never_exceeded(self):
        allowed = self.policy.budget_floor + self.policy.budget_ratio * self.flights.calls
        assert self.flights.hedges <= allowed + 1 + 1e-9
        assert self.flights.moves <= allowed + 1 + 1e-9
        assert self.flights.hedges + self.flights.moves <= len(self.named)

    @invariant()
    def what_was_named_or_ended_is_forgotten(self):
        assert len(self.flights) <= len([flight for flight in self.flying if flight not in self.named])

    @invariant()
    def somebody_looks_in_time(self):
        unseen = [f for f in self.flying if f not in self.named | self.past]
        young = [f for f in unseen if f.began + self.pace.overdue_s > self.now]
        due = self.flights.next_due(self.now)
        if young:
            assert due is not None
            assert due <= min(f.began for f in young) + self.pace.overdue_s + 1e-9


for machine in (RetryBudgetMachine, HedgingMachine):
    machine.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestRetryBudget = RetryBudgetMachine.TestCase
TestHedging = HedgingMachine.TestCase
