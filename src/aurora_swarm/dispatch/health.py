"""When an endpoint rests, is probed, cools down or is left out. Pure: told what happened and when.

An endpoint in good health has no entry here, so that the cost follows the trouble and not the fleet::

    well --3 failures--> resting --time--> probing --answers--> trial --a success--> well
                            ^                 |                   |
                            `----- silent ----'------ a failure --'        (each time resting twice as long)
    well --429, 503--> cooling --time--> trial
    any  --serves another model--> excluded
"""

from __future__ import annotations

from enum import Enum

import msgspec

from aurora_swarm.dispatch.routing import UNLIMITED
from aurora_swarm.errors import CallError
from aurora_swarm.values.policy import HealthPolicy


class Condition(Enum):
    """What may be done with an endpoint."""

    WELL = "well"
    RESTING = "resting"
    PROBING = "probing"
    TRIAL = "trial"
    COOLING = "cooling"
    EXCLUDED = "excluded"


MIN_COOLDOWN_S = 0.05
"""A Retry-After of nothing still means: not at once."""

_LIMITS = {Condition.WELL: UNLIMITED, Condition.TRIAL: 1}


class Patient(msgspec.Struct):
    """What is known of an endpoint in trouble.

    Args:
        condition: Where it stands.
        failures: Failures in a row.
        rest_s: The latest rest.
        until: When resting or cooling ends, on the caller's clock.
        error: The latest failure.
    """

    condition: Condition = Condition.WELL
    failures: int = 0
    rest_s: float = 0.0
    until: float = 0.0
    error: CallError | None = None


class Health:
    """The endpoints in trouble.

    Args:
        policy: How much trouble is too much.
    """

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        self._patients: dict[int, Patient] = {}

    def condition(self, index: int) -> Condition:
        """Where the endpoint stands."""
        patient = self._patients.get(index)
        return patient.condition if patient else Condition.WELL

    def limit(self, index: int) -> int:
        """How many calls it may have at a time: 0 when closed, 1 on trial."""
        return _LIMITS.get(self.condition(index), 0)

    def error(self, index: int) -> CallError | None:
        """Its latest failure since it was well."""
        patient = self._patients.get(index)
        return patient.error if patient else None

    def knows(self, index: int) -> bool:
        """Whether there is anything to forget about the endpoint."""
        return index in self._patients

    def succeeded(self, index: int) -> None:
        """A call succeeded: whatever was held against the endpoint is forgotten."""
        patient = self._patients.get(index)
        if patient is not None and patient.condition is not Condition.EXCLUDED:
            del self._patients[index]

    def failed(self, index: int, error: CallError, now: float) -> None:
        """A call failed by the endpoint's fault. Failures of calls that were under way when it went to rest are one."""
        patient = self._patients.setdefault(index, Patient())
        patient.error = error
        if patient.condition in {Condition.WELL, Condition.TRIAL, Condition.COOLING}:
            patient.failures += 1
            if patient.condition is Condition.TRIAL or patient.failures >= self._policy.failures:
                self._rest(patient, now)

    def silent(self, index: int, error: CallError, now: float) -> None:
        """The endpoint lets calls hang: it rests at once."""
        patient = self._patients.setdefault(index, Patient())
        patient.error = error
        if patient.condition in {Condition.WELL, Condition.TRIAL, Condition.COOLING}:
            patient.failures = self._policy.failures
            self._rest(patient, now)

    def overloaded(self, index: int, error: CallError, retry_after_s: float | None, now: float) -> None:
        """The endpoint asked for patience: it cools down, for twice as long each time where it names no time."""
        patient = self._patients.setdefault(index, Patient())
        patient.error = error
        if patient.condition not in {Condition.WELL, Condition.TRIAL}:
            return
        patient.rest_s = min(2 * patient.rest_s or self._policy.rest_s / 4, self._policy.rest_cap_s)
        wait_s = (
            patient.rest_s
            if retry_after_s is None
            else min(max(retry_after_s, MIN_COOLDOWN_S, patient.rest_s / 8), self._policy.cooldown_cap_s)
        )
        patient.condition, patient.until = Condition.COOLING, now + wait_s

    def exclude(self, index: int, error: CallError) -> None:
        """The endpoint is of no use to this run."""
        self._patients[index] = Patient(condition=Condition.EXCLUDED, error=error)

    def next_due(self) -> float | None:
        """When the next rest or cool-down ends; None when nobody rests."""
        waiting = (Condition.RESTING, Condition.COOLING)
        return min((p.until for p in self._patients.values() if p.condition in waiting), default=None)

    def wake(self, now: float) -> tuple[list[int], list[int]]:
        """Ends what is due.

        Returns:
            Endpoints to probe now, and endpoints that have cooled down and may be tried.
        """
        due = [(i, p) for i, p in self._patients.items() if p.until <= now]
        probes = [i for i, p in due if p.condition is Condition.RESTING]
        cooled = [i for i, p in due if p.condition is Condition.COOLING]
        for index in probes:
            self._patients[index].condition = Condition.PROBING
        for index in cooled:
            self._patients[index].condition = Condition.TRIAL
        return probes, cooled

    def probed(self, index: int, error: CallError | None, now: float) -> None:
        """A probe is back: None lets the endpoint try one call, an error sends it to rest again."""
        patient = self._patients.get(index)
        if patient is None or patient.condition is not Condition.PROBING:
            return
        if error is None:
            patient.condition = Condition.TRIAL
        else:
            patient.error = error
            self._rest(patient, now)

    def _rest(self, patient: Patient, now: float) -> None:
        patient.rest_s = min(2 * patient.rest_s or self._policy.rest_s, self._policy.rest_cap_s)
        patient.condition, patient.until = Condition.RESTING, now + patient.rest_s
