"""An endpoint's condition follows from what happened to it, and every rest ends when it should."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aurora_swarm.dispatch.health import Condition, Health
from aurora_swarm.errors import ConnectError, OverloadedError, WrongModelError
from aurora_swarm.values.policy import HealthPolicy

INDEX = st.integers(0, 2)
FAULT, BUSY, WRONG = ConnectError("refused"), OverloadedError("busy"), WrongModelError("serves another")
ROUNDING = 1e-6
OPEN = {Condition.WELL, Condition.TRIAL}


class HealthMachine(RuleBasedStateMachine):
    """The model knows per endpoint: the condition, failures in a row, and when it may be looked at again."""

    @initialize(failures=st.integers(1, 4), rest_s=st.floats(0.5, 3.0), cap=st.floats(1.0, 6.0))
    def start(self, failures, rest_s, cap):
        self.policy = HealthPolicy(failures=failures, rest_s=rest_s, rest_cap_s=rest_s * cap, cooldown_cap_s=20.0)
        self.health = Health(self.policy)
        self.now = 0.0
        self.condition = [Condition.WELL] * 3
        self.failures = [0] * 3
        self.until: list[float | None] = [None] * 3
        self.rests = [0] * 3
        self.last_rest_s = [0.0] * 3

    def rested(self, index, condition):
        """It went to rest or cools down: for how long, by the health's own word, and within which bounds."""
        self.condition[index] = condition
        self.until[index] = self.health_until(index)
        wait_s = self.until[index] - self.now
        if condition is Condition.RESTING:
            self.failures[index] = max(self.failures[index], 1)
            assert (
                min(self.policy.rest_s, self.policy.rest_cap_s) / 4 - ROUNDING
                <= wait_s
                <= self.policy.rest_cap_s + ROUNDING
            )
            assert wait_s >= min(self.last_rest_s[index], self.policy.rest_cap_s) - ROUNDING
            self.last_rest_s[index] = wait_s

    def health_until(self, index):
        """When it is due, seen from outside: alone, its due time is the next one."""
        low, high = self.now, self.now + 100.0
        due = self.health.next_due()
        assert due is not None
        others = [u for i, u in enumerate(self.until) if u is not None and i != index]
        assert low <= min([due, *others]) <= high
        return due if not others or due < min(others) else self._deeper(index)

    def _deeper(self, index):
        return self.health._patients[index].until

    @rule(index=INDEX)
    def failed(self, index):
        before = self.condition[index]
        self.health.failed(index, FAULT, self.now)
        if before in {Condition.WELL, Condition.TRIAL, Condition.COOLING}:
            self.failures[index] += 1
            if before is Condition.TRIAL or self.failures[index] >= self.policy.failures:
                self.rested(index, Condition.RESTING)

    @rule(index=INDEX)
    def silent(self, index):
        before = self.condition[index]
        self.health.silent(index, FAULT, self.now)
        if before in {Condition.WELL, Condition.TRIAL, Condition.COOLING}:
            self.failures[index] = self.policy.failures
            self.rested(index, Condition.RESTING)

    @rule(index=INDEX, retry_after_s=st.none() | st.floats(-5.0, 100.0))
    def overloaded(self, index, retry_after_s):
        before = self.condition[index]
        self.health.overloaded(index, BUSY, retry_after_s, self.now)
        if before in OPEN:
            self.rested(index, Condition.COOLING)
            wait_s = self.until[index] - self.now
            assert 0 < wait_s <= max(self.policy.cooldown_cap_s, self.policy.rest_cap_s) + ROUNDING + ROUNDING
            if retry_after_s is not None:
                assert wait_s >= min(retry_after_s, self.policy.cooldown_cap_s) - ROUNDING

    @rule(index=INDEX)
    def succeeded(self, index):
        self.health.succeeded(index)
        if self.condition[index] is not Condition.EXCLUDED:
            self.forget(index, Condition.WELL)

    @rule(index=INDEX)
    def exclude(self, index):
        self.health.exclude(index, WRONG)
        self.forget(index, Condition.EXCLUDED)

    def forget(self, index, condition):
        self.condition[index] = condition
        self.failures[index], self.until[index], self.last_rest_s[index] = 0, None, 0.0

    @rule(index=INDEX, well=st.booleans())
    def probed(self, index, well):
        before = self.condition[index]
        self.health.probed(index, None if well else FAULT, self.now)
        if before is Condition.PROBING:
            if well:
                self.condition[index] = Condition.TRIAL
            else:
                self.rested(index, Condition.RESTING)

    @rule(seconds=st.floats(0.0, 8.0))
    def time_passes(self, seconds):
        self.now += seconds
        probes, cooled = self.health.wake(self.now)
        due = [i for i, until in enumerate(self.until) if until is not None and until <= self.now]
        assert sorted(probes) == [i for i in due if self.condition[i] is Condition.RESTING]
        assert sorted(cooled) == [i for i in due if self.condition[i] is Condition.COOLING]
        for index in due:
            resting = self.condition[index] is Condition.RESTING
            self.condition[index] = Condition.PROBING if resting else Condition.TRIAL
            self.until[index] = None

    @invariant()
    def the_condition_agrees(self):
        assert [self.health.condition(i) for i in range(3)] == self.condition

    @invariant()
    def nobody_rests_without_an_end(self):
        waiting = [until for until in self.until if until is not None]
        assert self.health.next_due() == min(waiting, default=None)

    @invariant()
    def only_open_endpoints_take_calls(self):
        for index, condition in enumerate(self.condition):
            limit = self.health.limit(index)
            assert (limit > 0) == (condition in OPEN)
            assert condition is not Condition.TRIAL or limit == 1
            assert self.health.knows(index) or condition is Condition.WELL
            assert condition is Condition.WELL or self.health.error(index) is not None


TestHealth = HealthMachine.TestCase
TestHealth.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
