"""What a failure means for its call."""

import pytest

from aurora_swarm import errors
from aurora_swarm.dispatch.budget import RetryBudget
from aurora_swarm.dispatch.retry import Verdict, backoff_s, judge
from aurora_swarm.values.policy import RetryPolicy


def _all_below(cls):
    return {cls} | {sub for direct in cls.__subclasses__() for sub in _all_below(direct)}


@pytest.mark.parametrize("kind", sorted(_all_below(errors.EndpointError), key=lambda c: c.__name__))
def test_the_endpoints_faults_are_tried_again(kind):
    assert judge(kind("x")) is Verdict.AGAIN


@pytest.mark.parametrize("kind", [errors.OverloadedError, errors.WrongModelError])
def test_a_busy_or_foreign_endpoint_means_waiting(kind):
    assert judge(kind("x")) is Verdict.WAIT


@pytest.mark.parametrize(
    "kind", [errors.RequestRejectedError, errors.AuthenticationError, errors.DeadlineError, errors.CallCancelledError]
)
def test_everything_else_is_final(kind):
    assert judge(kind("x")) is Verdict.FINAL


def test_the_first_retry_elsewhere_goes_at_once():
    assert backoff_s(RetryPolicy(), 1, elsewhere=True, die=0.99) == 0.0


def test_backoff_doubles_up_to_the_cap_with_full_jitter():
    policy = RetryPolicy(base_s=1.0, cap_s=4.0)
    assert [backoff_s(policy, n, elsewhere=False, die=1.0) for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 4]
    assert backoff_s(policy, 3, elsewhere=False, die=0.25) == 1.0


def test_the_budget_allows_a_floor_and_then_a_share():
    budget = RetryBudget(RetryPolicy(budget_ratio=0.2, budget_floor=10))
    for _ in range(100):
        budget.note_call()
    assert sum(budget.spend() for _ in range(1000)) == 30
