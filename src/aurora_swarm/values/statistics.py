"""What a fleet did, as frozen records."""

from __future__ import annotations

import msgspec

from aurora_swarm.values.endpoint import AgentEndpoint


class EndpointStatistics(msgspec.Struct, frozen=True):
    """One endpoint.

    Args:
        endpoint: Who.
        condition: ``well``, ``resting``, ``probing``, ``trial``, ``cooling`` or ``excluded``.
        outstanding: Calls under way.
        succeeded: Attempts that gave an answer.
        failed: Attempts that did not.
        error: The latest failure as a sentence, while the endpoint is not well.
        limit: Calls that it may have at a time at present.
        latency_s: Smoothed seconds from sending to an answer; None before the first.
    """

    endpoint: AgentEndpoint
    condition: str
    outstanding: int
    succeeded: int
    failed: int
    error: str = ""
    limit: int = 0
    latency_s: float | None = None


class PoolStatistics(msgspec.Struct, frozen=True):
    """A whole fleet; the counts are of the runtime that all its sub-pools share.

    Args:
        endpoints: The members of the pool that was asked, in its order.
        calls: Calls that were made.
        attempts: Requests that were sent.
        retries: Requests that were sent because an earlier one failed.
        outstanding: Requests under way.
        waiting: Calls that wait for a slot.
        hedges: Requests that were sent beside a late one.
        moves: Requests that an idle endpoint got because a slow one had them.
        excused: Retries that cost no budget: the first failures of endpoints that never answered, and calls that waited
            for the end of an outage.
    """

    endpoints: tuple[EndpointStatistics, ...]
    calls: int
    attempts: int
    retries: int
    outstanding: int
    waiting: int
    hedges: int = 0
    moves: int = 0
    excused: int = 0
