"""When an endpoint rests, and how it comes back."""

from aurora_swarm.dispatch.health import Condition, Health
from aurora_swarm.dispatch.routing import UNLIMITED
from aurora_swarm.errors import ConnectError, OverloadedError, WrongModelError
from aurora_swarm.values.policy import HealthPolicy

DOWN = ConnectError("refused")


def rested(now: float = 0.0) -> Health:
    health = Health(HealthPolicy(failures=3, rest_s=1.0, rest_cap_s=8.0))
    for _ in range(3):
        health.failed(0, DOWN, now)
    return health


def test_two_failures_are_forgiven_by_a_success():
    health = Health(HealthPolicy())
    health.failed(0, DOWN, 0.0)
    health.failed(0, DOWN, 0.0)
    health.succeeded(0)
    health.failed(0, DOWN, 0.0)
    assert health.condition(0) is Condition.WELL


def test_the_third_failure_in_a_row_sends_to_rest():
    assert rested().limit(0) == 0


def test_failures_of_calls_that_were_under_way_do_not_prolong_the_rest():
    health = rested()
    for _ in range(100):
        health.failed(0, DOWN, 0.5)
    assert health.next_due() == 1.0


def test_a_rest_ends_in_one_probe_and_the_probe_in_one_trial_call():
    health = rested()
    assert health.wake(1.0) == ([0], [])
    assert health.wake(5.0) == ([], [])
    health.probed(0, None, 1.1)
    assert health.limit(0) == 1
    health.succeeded(0)
    assert health.limit(0) == UNLIMITED


def test_each_silent_probe_doubles_the_rest_up_to_the_cap():
    health, now, rests = rested(), 0.0, []
    for _ in range(6):
        due = health.next_due()
        assert due is not None
        rests.append(due - now)
        now = due
        health.wake(now)
        health.probed(0, DOWN, now)
    assert rests == [1, 2, 4, 8, 8, 8]


def test_a_failure_on_trial_rests_at_once_and_longer():
    health = rested()
    health.wake(1.0)
    health.probed(0, None, 1.0)
    health.failed(0, DOWN, 1.0)
    assert health.next_due() == 3.0


def test_overload_cools_down_for_the_time_asked_and_needs_no_probe():
    health = Health(HealthPolicy())
    health.overloaded(0, OverloadedError("busy"), 7.0, 0.0)
    assert health.limit(0) == 0
    assert health.wake(7.0) == ([], [0])
    assert health.limit(0) == 1
    health.succeeded(0)
    assert health.limit(0) == UNLIMITED


def test_a_huge_retry_after_is_clamped_and_a_zero_one_still_waits():
    health = Health(HealthPolicy(cooldown_cap_s=60))
    health.overloaded(0, OverloadedError("busy"), 1e9, 0.0)
    assert health.next_due() == 60.0
    health.overloaded(1, OverloadedError("busy"), 0.0, 0.0)
    assert 0 < health.next_due() < 1


def test_overload_without_a_time_cools_twice_as_long_each_time():
    health, now, waits = Health(HealthPolicy(rest_s=1.0)), 0.0, []
    for _ in range(4):
        health.overloaded(0, OverloadedError("busy"), None, now)
        due = health.next_due()
        assert due is not None
        waits.append(due - now)
        now = due
        health.wake(now)
    assert waits == [0.25, 0.5, 1.0, 2.0]


def test_an_endpoint_with_another_model_stays_out():
    health = Health(HealthPolicy())
    health.exclude(0, WrongModelError("other"))
    health.succeeded(0)
    assert health.limit(0) == 0
    assert health.next_due() is None
