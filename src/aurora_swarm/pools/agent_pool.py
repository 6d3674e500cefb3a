"""A fleet of agents that speak ``POST /generate``."""

from __future__ import annotations

from collections.abc import Iterable

from aurora_swarm.dispatch.dispatcher import Limits
from aurora_swarm.errors import UsageError
from aurora_swarm.pools.pool import Pool
from aurora_swarm.pools.runtime import Runtime
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.endpoint import AgentEndpoint


class AgentPool(Pool):
    """Endpoints that answer ``{"prompt"}`` with ``{"response"}`` or ``{"text"}`` at ``/generate``.

    One that does not know that path, as most engines do not, is asked for chat completions, with whatever model it
    serves. Use it as ``async with AgentPool(endpoints) as pool:``.

    Args:
        endpoints: The fleet; at least one endpoint, none twice.
        concurrency: Calls under way at a time, over the whole fleet.
        connector_limit: Connections kept open at most.
        timeout: Seconds for one attempt, from sending to the last byte.
        deadline: Seconds for one call with all its retries; three times `timeout` when None. Waiting behind other
            calls does not count.
        api_key: Bearer token; never shown in errors, logs or results.
        transport: How calls travel; for tests, recordings and wires of your own.

    Raises:
        NoEndpointsError: `endpoints` is empty.
        UsageError: An endpoint is given twice, or a number is not positive.
    """

    def __init__(
        self,
        endpoints: Iterable[AgentEndpoint],
        concurrency: int = 512,
        connector_limit: int = 1024,
        timeout: float = 120.0,
        *,
        deadline: float | None = None,
        api_key: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        if transport is None:
            transport = open_transport("generate", api_key=api_key, max_connections=connector_limit)
        fleet = checked_fleet(endpoints)
        runtime = Runtime(fleet, transport, limits=limits(concurrency, timeout, deadline))
        super().__init__(runtime, range(len(fleet)))


def limits(concurrency: int, timeout: float, deadline: float | None) -> Limits:
    """The dispatcher's limits from what a pool is given."""
    return Limits(concurrency, timeout, 3 * timeout if deadline is None else deadline, min(5.0, timeout))


def checked_fleet(endpoints: Iterable[AgentEndpoint]) -> list[AgentEndpoint]:
    """The endpoints as a list.

    Raises:
        UsageError: One is given twice.
    """
    fleet = list(endpoints)
    seen: set[str] = set()
    for endpoint in fleet:
        if endpoint.url in seen:
            raise UsageError(f"endpoint {endpoint.url} is given twice", remedy="give each endpoint once")
        seen.add(endpoint.url)
    return fleet
