"""How much patience there is: the numbers that deciding modules decide by."""

from __future__ import annotations

import msgspec


class RetryPolicy(msgspec.Struct, frozen=True):
    """When a failed attempt is made again.

    Args:
        max_attempts: Requests per call at most, the first included.
        base_s: First back-off; doubles with every attempt, drawn with full jitter.
        cap_s: Longest back-off.
        budget_ratio: Retries allowed per request, over the whole pool.
        budget_floor: Retries allowed before the ratio counts.
    """

    max_attempts: int = 4
    base_s: float = 0.2
    cap_s: float = 10.0
    budget_ratio: float = 0.2
    budget_floor: int = 10


class HealthPolicy(msgspec.Struct, frozen=True):
    """When an endpoint rests.

    Args:
        failures: Failures in a row that send it to rest.
        rest_s: First rest; doubles with every failed probe.
        rest_cap_s: Longest rest.
        cooldown_cap_s: Longest cool-down that a Retry-After can ask for.
    """

    failures: int = 3
    rest_s: float = 1.0
    rest_cap_s: float = 8.0
    cooldown_cap_s: float = 60.0


class HedgePolicy(msgspec.Struct, frozen=True):
    """When an attempt gets a rival on another endpoint; the first answer counts.

    Args:
        quantile: An attempt is late when it is older than this share of the latest answers took, times `factor`.
        factor: See `quantile`.
        floor_s: No attempt is late before.
        budget_ratio: Rivals for late attempts, per call, over the whole pool.
        budget_floor: Rivals allowed before the ratio counts.
        silence: An attempt this many times as old as a late one speaks of a hung endpoint, where that one
            answered nobody since.
        move_gain: An attempt is moved to an idle endpoint that takes this many times less than it still needs.
        move_ratio: Rivals for moved attempts, per call.
    """

    quantile: float = 0.98
    factor: float = 1.5
    floor_s: float = 0.05
    budget_ratio: float = 0.02
    budget_floor: int = 2
    silence: float = 4.0
    move_gain: float = 1.5
    move_ratio: float = 0.05
