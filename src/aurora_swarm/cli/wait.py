"""``aurora-swarm wait``: until a fleet is ready."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aurora_swarm.cli.exits import Exit
from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import HostfileOption, ModelOption, environment
from aurora_swarm.cli.voice import say
from aurora_swarm.errors import NothingListensError, UsageError

if TYPE_CHECKING:
    from aurora_swarm.pools.readiness import Patience, Readiness


def wait(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The hostfile to write: those that are ready.")
    ],
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    health_timeout: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="For all servers, from when the first one is healthy.")
    ] = 1800.0,
    first_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="SECONDS", help="For the first healthy server. Default: as long as --health-timeout."
        ),
    ] = None,
    hostfile_timeout: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDS", help="For the hostfile to appear. Default: no limit.")
    ] = None,
    min_hosts: Annotated[int, typer.Option(min=1, help="Fewer than this are too few.")] = 1,
    min_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A smaller share of the hostfile than this is too few.")
    ] = 0.0,
    interval: Annotated[float, typer.Option(min=0.01, metavar="SECONDS", help="Between two looks.")] = 2.0,
) -> int:
    """Wait for a hostfile and its servers; exit with 0 if all are ready, 1 if enough, 3 if too few."""
    from aurora_swarm.inputs.hostfile import write_hostfile  # noqa: PLC0415 - start-up is light
    from aurora_swarm.pools.readiness import Patience  # noqa: PLC0415

    settings = environment()
    source = hostfile or settings.hostfile
    if source is None:
        raise UsageError("there is no hostfile", remedy="give --hostfile FILE, or set AURORA_SWARM_HOSTFILE")
    _check_output(output)
    patience = Patience(
        hostfile_timeout_s=hostfile_timeout,
        health_timeout_s=health_timeout,
        first_timeout_s=first_timeout,
        min_hosts=min_hosts,
        min_fraction=min_fraction,
        interval_s=interval,
    )
    try:
        readiness = run_interruptibly(_wait(Path(source), patience, model or settings.model or "", settings.api_key))
    except NothingListensError as error:
        from aurora_swarm.cli.complaints import complain  # noqa: PLC0415

        complain(error)
        return Exit.ALL_FAILED
    write_hostfile(output, readiness.ready)
    _log(f"wrote {output}: {len(readiness.ready)} ready, {len(readiness.missing)} dropped")
    return Exit.SOME_FAILED if readiness.missing else Exit.OK


async def _wait(hostfile: Path, patience: Patience, model: str, api_key: str | None) -> Readiness:
    from aurora_swarm.pools.readiness import wait_for_fleet  # noqa: PLC0415
    from aurora_swarm.transports.open import open_transport  # noqa: PLC0415

    transport = open_transport("openai", api_key=api_key)
    try:
        return await wait_for_fleet(hostfile, transport, patience, model=model, say=_log)
    finally:
        await transport.aclose()


def _check_output(output: Path) -> None:
    """Notice now, rather than after hours of waiting, that the result has no place to go."""
    if output.is_dir() or not output.absolute().parent.is_dir():
        problem = "is a folder" if output.is_dir() else "is in a folder that does not exist"
        raise UsageError(f"{output} {problem}", remedy="give --output the path of a file")


def _log(text: str) -> None:
    import time  # noqa: PLC0415

    say(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}")
