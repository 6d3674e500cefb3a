"""``aurora-swarm endpoints``: who of a fleet is up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aurora_swarm.cli.exits import exit_of
from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import BackendOption, HostfileOption, chosen_backend, environment
from aurora_swarm.cli.voice import one_line, say, tell
from aurora_swarm.errors import UsageError

if TYPE_CHECKING:
    from aurora_swarm.pools.survey import Sighting
    from aurora_swarm.values.endpoint import AgentEndpoint

_COLUMNS = ("endpoint", "up", "model", "context", "engine", "latency")


def endpoints(
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON array on standard output.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="For one look.")] = 5.0,
) -> int:
    """Look at every endpoint once; exit with 0 if all are up, 1 if some are, 3 if none is."""
    from aurora_swarm.pools.open import describe  # noqa: PLC0415 - start-up is light

    chosen = chosen_backend(backend, hostfile)
    if isinstance(chosen, str) and chosen.startswith("local:"):
        raise UsageError(
            "local:// starts a server for each run; there is none to look at",
            remedy="start servers that stay with: aurora-swarm local",
        )
    wire, fleet = describe(chosen)
    sightings = run_interruptibly(_look(wire, fleet, environment().api_key, timeout))
    records = [_record(sighting) for sighting in sightings]
    if json_:
        import json  # noqa: PLC0415

        tell(json.dumps(records, indent=2))
    else:
        _print(records)
    up = sum(record["up"] for record in records)
    say(f"{up} of {len(records)} endpoints are up")
    return exit_of(up, len(records) - up)


async def _look(wire: str, fleet: list[AgentEndpoint], api_key: str | None, timeout_s: float) -> list[Sighting]:
    """A sighting of every endpoint, in the order of the fleet."""
    from aurora_swarm.pools.open import transport_for  # noqa: PLC0415
    from aurora_swarm.pools.survey import survey  # noqa: PLC0415

    transport = transport_for(wire, fleet, api_key=api_key)
    try:
        seen = {sighting.endpoint: sighting async for sighting in survey(transport, fleet, timeout_s=timeout_s)}
    finally:
        await transport.aclose()
    return [seen[endpoint] for endpoint in fleet]


def _record(sighting: Sighting) -> dict[str, Any]:
    info, error = sighting.info, sighting.error
    return {
        "endpoint": sighting.endpoint.url,
        "tags": dict(sighting.endpoint.tags),
        "up": info is not None,
        "models": list(info.models) if info else [],
        "max_context": info.max_context if info else None,
        "engine": info.engine if info else "",
        "latency_s": round(info.latency_s, 6) if info else None,
        "error": {"kind": error.kind, "message": str(error)} if error else None,
    }


def _print(records: list[dict[str, Any]]) -> None:
    """A table: the last column of an endpoint that is down says why."""
    rows = [_COLUMNS, *(_row(record) for record in records)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        tell("  ".join([*cells, row[-1]]).rstrip())


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    if not record["up"]:
        return (record["endpoint"], "no", "-", "-", "-", one_line(record["error"]["message"], 100))
    return (
        record["endpoint"],
        "yes",
        one_line(", ".join(record["models"]), 60) or "-",
        str(record["max_context"] or "-"),
        record["engine"] or "-",
        f"{record['latency_s'] * 1000:.0f} ms",
    )
