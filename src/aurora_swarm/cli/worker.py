"""``aurora-swarm worker``: one more process for a run that several share."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from aurora_swarm.cli.exits import Exit
from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.options import (
    BackendOption,
    HostfileOption,
    LocalModelOption,
    MaxInflightOption,
    ModelOption,
    QuietOption,
    chosen_backend,
)
from aurora_swarm.cli.sharing import batch_of
from aurora_swarm.cli.voice import counted, say
from aurora_swarm.errors import UsageError

if TYPE_CHECKING:
    from aurora_swarm.batch.plan import Where

_LOOK_S = 0.5


def worker(
    *,
    store: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="AURORA_SWARM_STORE",
            help="Where the run is: redis://host:6379/0, or sqlite:///path on one machine.",
        ),
    ],
    run: Annotated[str, typer.Option("--run", metavar="ID", help="The run's id, as aurora-swarm run said it.")],
    wait: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="For the run to be made, where it is not yet.")
    ] = 60.0,
    backend: BackendOption = None,
    hostfile: HostfileOption = None,
    model: ModelOption = None,
    local_model: LocalModelOption = None,
    max_inflight: MaxInflightOption = None,
    quiet: QuietOption = False,
) -> int:
    """Work on a run that several processes share, until every input has its result."""
    from aurora_swarm.batch.worker import work  # noqa: PLC0415 - start-up is light

    given = {"model": model, "local_model": local_model, "max_inflight": max_inflight}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if backend or hostfile:
        chosen = chosen_backend(backend, hostfile)
        changes["backend"] = str(chosen.absolute()) if isinstance(chosen, Path) else chosen
    where = msgspec.structs.replace(run_interruptibly(_where(store, run, wait)), **changes)
    ended = run_interruptibly(work(store, run, where=where, revive=batch_of, say=None if quiet else say))
    if not quiet:
        say(f"run {run} is finished; {counted(ended, 'agent')} ended here")
    return Exit.OK


async def serve(argument: str) -> None:
    """The worker function of a run that the command line made, for an engine.

    Args:
        argument: An `aurora_swarm.batch.plan.Errand` as JSON.
    """
    from aurora_swarm.batch.plan import Errand  # noqa: PLC0415
    from aurora_swarm.batch.worker import work  # noqa: PLC0415

    errand = msgspec.json.decode(argument, type=Errand)
    await work(errand.store, errand.run, where=errand.where, revive=batch_of)


async def _where(store_url: str, run: str, wait_s: float) -> Where:
    """Where the run says that the model is. Waits until the run is there.

    Raises:
        UsageError: It did not come in time.
    """
    from aurora_swarm.batch.plan import unpacked  # noqa: PLC0415
    from aurora_swarm.journal.shards import open_shards  # noqa: PLC0415

    now, told = asyncio.get_running_loop().time, False
    until = now() + wait_s
    while True:
        try:
            store = await open_shards(store_url, run=run)
        except UsageError as error:
            if now() >= until:
                raise
            if not told:
                told = True
                say(f"{error}; looking again for {wait_s:g} s")
            await asyncio.sleep(_LOOK_S)
        else:
            await store.aclose()
            return unpacked(store.plan.spec).where
