"""Whatever happens to a fleet, the router picks the free member with the least load that was idle longest.

Members that are set behind seem to have more than they have.
"""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aurora_swarm.dispatch.routing import Router

INDEX = st.integers(0, 5)
HANDICAP = 2


class RouterMachine(RuleBasedStateMachine):
    """The model looks through all members, and remembers when each was last touched."""

    @initialize(size=st.integers(1, 6), limit=st.integers(0, 4))
    def start(self, size, limit):
        self.router = Router(size, limit, HANDICAP)
        self.loads, self.limits, self.trials = [0] * size, [limit] * size, [False] * size
        self.clock = itertools.count()
        self.behind = set()
        self.views = []
        self.new_view(set(range(size)))

    def at(self, index):
        return index % len(self.loads)

    def touch(self, index):
        for _, touched in self.views:
            if index in touched:
                touched[index] = next(self.clock)

    @rule(members=st.sets(INDEX, min_size=1))
    def new_view(self, members):
        chosen = sorted({self.at(i) for i in members})
        self.views.append((self.router.view(chosen), {i: next(self.clock) for i in chosen}))

    @precondition(lambda self: len(self.views) > 1)
    @rule(place=st.integers(0, 20))
    def drop_view(self, place):
        del self.views[place % len(self.views)]

    @rule(place=st.integers(0, 20), avoid=st.frozensets(INDEX, max_size=4), weight=st.integers(1, 3))
    def take_least(self, place, avoid, weight):
        view, touched = self.views[place % len(self.views)]
        free = [i for i in touched if self.loads[i] < self.limits[i]]
        wanted = [i for i in free if i not in avoid] or free
        seeming = [load + HANDICAP * (i in self.behind) for i, load in enumerate(self.loads)]
        expected = min(wanted, key=lambda i: (seeming[i], touched[i]), default=None)
        assert self.router.take_least(view, avoid, weight) == expected
        if expected is not None:
            self.loads[expected] += weight
            self.touch(expected)

    @rule(index=INDEX, weight=st.integers(1, 3))
    def take(self, index, weight):
        index = self.at(index)
        self.router.take(index, weight)
        self.loads[index] += weight
        self.touch(index)

    @rule(index=INDEX, weight=st.integers(1, 3))
    def give(self, index, weight):
        index = self.at(index)
        weight = min(weight, self.loads[index])
        if weight:
            self.router.give(index, weight)
            self.loads[index] -= weight
            self.touch(index)

    @rule(index=INDEX, limit=st.integers(0, 4), trial=st.booleans())
    def set_limit(self, index, limit, trial):
        index = self.at(index)
        self.router.set_limit(index, limit, trial=trial)
        self.limits[index], self.trials[index] = limit, trial
        self.touch(index)

    @rule(index=INDEX, behind=st.booleans())
    def set_behind(self, index, behind):
        index = self.at(index)
        self.router.set_behind(index, behind=behind)
        (self.behind.add if behind else self.behind.discard)(index)
        self.touch(index)

    @invariant()
    def loads_and_limits_agree(self):
        assert self.router.loads == self.loads
        assert self.router.limits == self.limits
        for index, (load, limit) in enumerate(zip(self.loads, self.limits, strict=True)):
            assert self.router.is_free(index) == (load < limit)

    @invariant()
    def a_view_is_out_when_no_member_is_open(self):
        for view, touched in self.views:
            assert view.out == all(self.trials[i] or not self.limits[i] for i in touched)
            assert [i in view for i in range(len(self.loads))] == [i in touched for i in range(len(self.loads))]


TestRouter = RouterMachine.TestCase
TestRouter.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
