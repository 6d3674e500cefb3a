"""How many retries the whole pool may still make, so that a broken fleet is not hit twice as hard. Pure."""

from __future__ import annotations

from aurora_swarm.values.policy import RetryPolicy


class RetryBudget:
    """Allows a share of all calls as retries, above a small floor.

    Args:
        policy: The share and the floor.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.calls = 0
        self.retries = 0
        self.excused = 0

    def note_call(self) -> None:
        """A new call begins."""
        self.calls += 1

    def spend(self) -> bool:
        """Take one retry, if there is one left."""
        if self.retries >= self._policy.budget_floor + self._policy.budget_ratio * self.calls:
            return False
        self.retries += 1
        return True
