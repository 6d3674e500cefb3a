"""A window stays within its bounds whatever is measured, and what an endpoint tells of its slots is believed."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aurora_swarm.dispatch.windows import LADDER, Windows

INDEX = st.integers(0, 1)


class WindowsMachine(RuleBasedStateMachine):
    """Endpoints answer at any pace; the model knows who named its slots, and who came back from a rest."""

    @initialize(start=st.sampled_from(LADDER), ceiling=st.sampled_from(LADDER))
    def begin(self, start, ceiling):
        self.windows = Windows(start, ceiling)
        self.ceiling = ceiling
        self.now = 0.0
        self.fixed = {}

    @rule(
        index=INDEX,
        times=st.integers(1, 80),
        latency_s=st.floats(0.001, 100.0),
        full=st.booleans(),
        pause_s=st.just(0.0) | st.floats(1e-6, 1.0),
        work=st.floats(0.1, 1000.0),
    )
    def answered(self, index, times, latency_s, full, pause_s, work):
        for _ in range(times):
            self.now += pause_s
            before = self.windows.limit(index)
            load = before if full else 1
            changed = self.windows.finished(index, work, latency_s, load, self.now)
            if self.windows.limit(index) != before:
                assert changed

    @rule(index=INDEX)
    def restart(self, index):
        self.windows.restart(index, self.now)
        if index not in self.fixed:
            assert self.windows.limit(index) == 1

    @rule(index=INDEX, slots=st.integers(1, 64))
    def fix(self, index, slots):
        self.windows.fix(index, slots)
        self.fixed[index] = slots

    @rule(index=INDEX, running=st.integers(0, 100), waiting=st.integers(0, 400), load=st.integers(0, 200))
    def observe(self, index, running, waiting, load):
        self.windows.observe(index, running, waiting, load, self.now)

    @invariant()
    def a_window_keeps_to_its_bounds(self):
        for index in range(2):
            assert 1 <= self.windows.limit(index) <= self.ceiling

    @invariant()
    def who_names_its_slots_is_believed(self):
        for index, slots in self.fixed.items():
            assert self.windows.limit(index) == min(slots, self.ceiling)


TestWindows = WindowsMachine.TestCase
TestWindows.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
