"""Waiting for a fleet that a batch job starts: first for its hostfile, then for its servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from aurora_swarm.errors import HostfileError, NothingListensError, UsageError
from aurora_swarm.inputs.hostfile import parse_hostfile
from aurora_swarm.pools.survey import Sighting, survey
from aurora_swarm.ports.transport import Transport
from aurora_swarm.values.endpoint import AgentEndpoint

Say = Callable[[str], None]


class Readiness(msgspec.Struct, frozen=True):
    """Who is ready, and who is not.

    Args:
        ready: Healthy endpoints, in the order of the hostfile.
        missing: The last sighting of each endpoint that did not become healthy.
        waited_s: Seconds from the start to the decision.
    """

    ready: tuple[AgentEndpoint, ...]
    missing: tuple[Sighting, ...]
    waited_s: float


class Patience(msgspec.Struct, frozen=True):
    """How long to wait, and for how much.

    Args:
        hostfile_timeout_s: For the hostfile to appear; None for as long as it takes (a queued job may start in days).
        health_timeout_s: For all servers, from the moment that the first one is healthy.
        first_timeout_s: For the first healthy server, from the moment that the hostfile is there; None for
            `health_timeout_s`.
        min_hosts: Fewer than this are a failure.
        min_fraction: A smaller share of the hostfile than this is a failure; 0 to 1.
        interval_s: Between two rounds of looks at those that are not healthy yet.
        probe_timeout_s: For one look.
    """

    hostfile_timeout_s: float | None = None
    health_timeout_s: float = 1800.0
    first_timeout_s: float | None = None
    min_hosts: int = 1
    min_fraction: float = 0.0
    interval_s: float = 2.0
    probe_timeout_s: float = 5.0


async def wait_for_fleet(
    hostfile: str | Path, transport: Transport, patience: Patience | None = None, *, model: str = "", say: Say = print
) -> Readiness:
    """Wait until a fleet is ready.

    The clock for the servers' health starts when the first of them is healthy, because nobody knows when a
    queued job begins. All endpoints are looked at concurrently, those that are healthy only once.

    Args:
        hostfile: May not exist yet.
        transport: How to look.
        patience: How long to wait.
        model: Only endpoints that serve it count; empty for any.
        say: Told in plain sentences what happens.

    Returns:
        Who is ready; at least `min_hosts` and `min_fraction`.

    Raises:
        HostfileError: The hostfile did not appear in time, or holds bad lines when it stopped changing.
        NothingListensError: Too few servers became healthy in time; each that did not is named with its reason.
    """
    patience = patience or Patience()
    _check(patience)
    loop = asyncio.get_running_loop()
    start = loop.time()
    endpoints = await _wait_for_hostfile(Path(hostfile), patience, say)
    say(f"{hostfile}: {len(endpoints)} endpoints; waiting for them to be healthy")
    seen = await _wait_for_health(endpoints, transport, patience, model, say)
    readiness = Readiness(
        ready=tuple(e for e in endpoints if seen[e].serves(model)),
        missing=tuple(s for s in seen.values() if not s.serves(model)),
        waited_s=loop.time() - start,
    )
    for sighting in readiness.missing:
        say(f"dropped {sighting.endpoint.url}: {_reason(sighting, model)}")
    _refuse_too_few(readiness, len(endpoints), patience)
    return readiness


async def _wait_for_hostfile(path: Path, patience: Patience, say: Say) -> list[AgentEndpoint]:
    loop = asyncio.get_running_loop()
    limit_s = patience.hostfile_timeout_s
    end = None if limit_s is None else loop.time() + limit_s
    told = loop.time() - 60
    while True:
        size = await asyncio.to_thread(_size, path)
        if size:
            # A job may still be writing it: bad lines count only once the file has stopped growing.
            await asyncio.sleep(min(patience.interval_s, 0.5))
            if size == await asyncio.to_thread(_size, path):
                return await asyncio.to_thread(parse_hostfile, path)
        elif end is not None and loop.time() >= end:
            raise HostfileError(
                f"did not appear within {limit_s:g} s",
                source=str(path),
                remedy="check that the job runs and writes it, or wait longer with --hostfile-timeout",
            )
        if loop.time() - told >= 30:
            told = loop.time()
            say(f"waiting for {path} to appear")
        await asyncio.sleep(patience.interval_s)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


async def _wait_for_health(
    endpoints: Sequence[AgentEndpoint], transport: Transport, patience: Patience, model: str, say: Say
) -> dict[AgentEndpoint, Sighting]:
    loop = asyncio.get_running_loop()
    first_s = patience.health_timeout_s if patience.first_timeout_s is None else patience.first_timeout_s
    end, found, told = loop.time() + first_s, False, loop.time()
    seen: dict[AgentEndpoint, Sighting] = {}
    left = list(endpoints)
    while left:
        async for sighting in survey(transport, left, timeout_s=patience.probe_timeout_s):
            seen[sighting.endpoint] = sighting
            if sighting.serves(model):
                say(f"healthy {sighting.endpoint.url} ({len(_healthy(seen, model))} of {len(endpoints)})")
                if not found:
                    found, end = True, loop.time() + patience.health_timeout_s
        left = [e for e in endpoints if not seen[e].serves(model)]
        if not left or loop.time() >= end:
            break
        if loop.time() - told >= 10:
            told = loop.time()
            say(f"{len(left)} of {len(endpoints)} are not healthy yet; {max(end - loop.time(), 0):.0f} s left")
        await asyncio.sleep(min(patience.interval_s, max(end - loop.time(), 0.0)))
    return seen


def _healthy(seen: dict[AgentEndpoint, Sighting], model: str) -> list[AgentEndpoint]:
    return [endpoint for endpoint, sighting in seen.items() if sighting.serves(model)]


def _reason(sighting: Sighting, model: str) -> str:
    if sighting.error is not None:
        return sighting.error.problem
    served = ", ".join(sighting.info.models) if sighting.info else ""
    return f"serves {served}, not {model}"


def _check(patience: Patience) -> None:
    if not 0 <= patience.min_fraction <= 1:
        raise UsageError(f"min_fraction is {patience.min_fraction:g}", remedy="give a share between 0 and 1")
    if patience.min_hosts < 1:
        raise UsageError(f"min_hosts is {patience.min_hosts}", remedy="give at least 1")


def _refuse_too_few(readiness: Readiness, total: int, patience: Patience) -> None:
    ready = len(readiness.ready)
    if ready < patience.min_hosts or ready < patience.min_fraction * total:
        wanted = max(patience.min_hosts, patience.min_fraction * total)
        raise NothingListensError(
            f"{ready} of {total} endpoints are healthy, {wanted:g} are wanted",
            remedy="see the reasons above; wait longer with --health-timeout, or accept fewer with --min-hosts",
        )
