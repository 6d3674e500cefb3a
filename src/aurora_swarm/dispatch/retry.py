"""What a failed attempt means for its call. Pure: told the error, the count and a die.

Retrying is an allow-list by type: what is not named here is final.
"""

from __future__ import annotations

from enum import Enum

from aurora_swarm.errors import CallError, EndpointError, OverloadedError, WrongModelError
from aurora_swarm.values.policy import RetryPolicy


class Verdict(Enum):
    """What may follow a failure."""

    FINAL = "final"
    """Trying again cannot help."""
    AGAIN = "again"
    """Another attempt may help; it costs budget."""
    WAIT = "wait"
    """The endpoint is busy or not ours: another one, or this one later, at no cost to the budget."""


def judge(error: CallError) -> Verdict:
    """What may follow `error`."""
    if isinstance(error, EndpointError):
        return Verdict.AGAIN
    if isinstance(error, OverloadedError | WrongModelError):
        return Verdict.WAIT
    return Verdict.FINAL


def backoff_s(policy: RetryPolicy, failures: int, *, elsewhere: bool, die: float) -> float:
    """Seconds to wait before the next attempt, with full jitter.

    The first retry on another endpoint goes at once: that endpoint has given no reason to wait.

    Args:
        policy: Base and cap.
        failures: Failed attempts so far, at least 1.
        elsewhere: Whether an endpoint remains that this call has not tried.
        die: A number drawn evenly from [0, 1).
    """
    if failures == 1 and elsewhere:
        return 0.0
    return die * float(min(policy.cap_s, policy.base_s * 2.0 ** (failures - 1)))
