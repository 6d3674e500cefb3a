"""Who of a fleet is there: one look at every endpoint, all at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import msgspec

from aurora_swarm.errors import AuthenticationError, CallError, NothingListensError, UsageError
from aurora_swarm.pools.flow import as_they_finish
from aurora_swarm.ports.transport import Transport
from aurora_swarm.transports.mixed import MODEL
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo

WIDTH = 256
"""Probes under way at a time: thousands of endpoints are seen in seconds, within an ordinary limit of open files."""


class Sighting(msgspec.Struct, frozen=True):
    """What one look at an endpoint showed; exactly one of `info` and `error` is set.

    Args:
        endpoint: Who was looked at.
        info: What it said of itself.
        error: Why it said nothing.
    """

    endpoint: AgentEndpoint
    info: EndpointInfo | None
    error: CallError | None

    def serves(self, model: str) -> bool:
        """Whether the endpoint is up and may serve what it is asked for: the model of its own tag, else `model`.

        One that lists no models may.
        """
        wanted = self.endpoint.tags.get(MODEL, model)
        return self.info is not None and (not wanted or not self.info.models or wanted in self.info.models)


async def look(transport: Transport, endpoint: AgentEndpoint, timeout_s: float) -> Sighting:
    """One look at one endpoint; never raises for what it finds."""
    try:
        return Sighting(endpoint, await transport.probe(endpoint, timeout_s=timeout_s), None)
    except CallError as error:
        return Sighting(endpoint, None, error)


def survey(
    transport: Transport, endpoints: Sequence[AgentEndpoint], *, timeout_s: float
) -> AsyncGenerator[Sighting, None]:
    """Look at every endpoint, `WIDTH` at a time; sightings come as they are made."""
    return as_they_finish(endpoints, lambda _, endpoint: look(transport, endpoint, timeout_s), width=WIDTH)


async def first_that_serves(
    transport: Transport, endpoints: Sequence[AgentEndpoint], model: str, *, timeout_s: float
) -> Sighting:
    """Look until one endpoint is found that serves `model`; the rest is left to the dispatcher's health.

    Args:
        transport: How to look.
        endpoints: At least one.
        model: The model wanted; empty for any.
        timeout_s: Patience with each endpoint.

    Raises:
        NothingListensError: No endpoint answers.
        UsageError: Endpoints answer, and none serves the model (those that they serve are named), or all refuse the
            key.
    """
    seen: list[Sighting] = []
    sightings = as_they_finish(endpoints, lambda _, e: look(transport, e, timeout_s), width=WIDTH)
    try:
        async for sighting in sightings:
            if sighting.serves(model):
                return sighting
            seen.append(sighting)
    finally:
        await sightings.aclose()
    raise _nobody(seen, model)


def _nobody(seen: list[Sighting], model: str) -> UsageError:
    refused = [s.error for s in seen if isinstance(s.error, AuthenticationError)]
    if len(refused) == len(seen):
        return UsageError(f"no endpoint takes the key ({refused[0]})", remedy=refused[0].remedy)
    served = sorted({name for s in seen if s.info for name in s.info.models})
    if served:
        return UsageError(f"no endpoint serves the model {model}", remedy=f"they serve: {', '.join(served)}")
    reasons = "; ".join(str(s.error) for s in seen[:3]) + ("; ..." if len(seen) > 3 else "")
    what = seen[0].endpoint.url if len(seen) == 1 else f"any of {len(seen)} endpoints"
    return NothingListensError(
        f"nothing answers at {what} ({reasons})",
        remedy="start the servers, or wait for them with: aurora-swarm wait; "
        "without servers of your own use --backend local://",
    )
