"""Runs that several processes share: what the command line says of them, and how the specification travels."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from aurora_swarm.cli.voice import say
from aurora_swarm.errors import UsageError

if TYPE_CHECKING:
    from aurora_swarm.batch.plan import Parcel, Sharing
    from aurora_swarm.batch.spec import BatchSpec
    from aurora_swarm.cli.batches import Batch, Delivery
    from aurora_swarm.inputs.spec import RunSpec

WORKER = "aurora_swarm.cli.worker:serve"
"""The worker function of runs that the command line makes."""


class Document(msgspec.Struct, frozen=True):
    """A specification on its way to workers; no code.

    Args:
        said: What it says, but for what only whoever drives the run needs.
        file: Where it stands, for what it names relative to that.
    """

    said: dict[str, Any]
    file: str


def chosen_sharing(store: str | None, processes: int | None, engine: str | None, run_id: str | None) -> Sharing | None:
    """How a run is shared; None where it is not.

    Raises:
        UsageError: Something is said of workers, and there is no store.
    """
    if store is None:
        if processes is not None or engine is not None or run_id is not None:
            remedy = "add --store redis://host:6379/0, or --store sqlite:///path on one machine"
            raise UsageError("--processes, --engine and --run-id need --store", remedy=remedy)
        return None
    from aurora_swarm.batch.plan import Sharing  # noqa: PLC0415 - start-up is light

    count = 2 if processes is None else processes
    return Sharing(store=store, run=run_id or "", engine=engine or "processes", processes=count, worker=WORKER)


def conduct_shared(batch: Batch, delivery: Delivery, sharing: Sharing, said: RunSpec, file: Path) -> int:
    """Run a batch that several processes share to its end, or to Ctrl-C; then the same command continues it.

    Returns:
        The exit code.

    Raises:
        UsageError: Something given is wrong, or is not for runs that are shared.
    """
    from aurora_swarm.batch.distributed import find_run  # noqa: PLC0415 - start-up is light
    from aurora_swarm.batch.loop import run_on_loop  # noqa: PLC0415
    from aurora_swarm.cli.batches import conduct  # noqa: PLC0415

    _check(batch, delivery)
    sharing = msgspec.structs.replace(sharing, document=document_of(said, file))
    options = msgspec.structs.replace(batch.options, sharing=sharing)
    run, kept = run_on_loop(find_run(batch.spec, options))
    sharing = msgspec.structs.replace(sharing, run=run)
    batch = msgspec.structs.replace(batch, options=msgspec.structs.replace(options, sharing=sharing))
    delivery = msgspec.structs.replace(delivery, no_journal=True, overwrite=delivery.overwrite or kept)
    if not delivery.quiet:
        say(f"run {run}: a further worker is begun with: {join_command(sharing)}")
    try:
        return conduct(batch, delivery)
    except KeyboardInterrupt:
        say(
            f"  again   the same command continues run {run} from {sharing.place}: what has a result is not asked again"
        )
        raise


def join_command(sharing: Sharing) -> str:
    """How a further worker is begun; what is secret in the address is left out."""
    return f"aurora-swarm worker --store {shlex.quote(sharing.place)} --run {sharing.run}"


def _check(batch: Batch, delivery: Delivery) -> None:
    if delivery.journal is not None:
        remedy = "leave --journal, and journal: in the file, out"
        raise UsageError("a journal and --store are both given, and the store keeps the work", remedy=remedy)
    if batch.reduction is not None:
        remedy = "reduce the results of the finished run: aurora-swarm map with --reduce"
        raise UsageError("--reduce is not for runs with --store", remedy=remedy)


def document_of(said: RunSpec, file: Path) -> bytes:
    """A specification as it travels."""
    from aurora_swarm.batch.plan import encoded  # noqa: PLC0415

    left_out: dict[str, Any] = {
        "inputs": [],
        "keep": [],
        "prices": None,
        "budget": None,
        "reduce": None,
        "reduce_schema": None,
    }
    own = msgspec.structs.replace(said, **left_out, backend=None, hostfile=None, output=None, journal=None, events=None)
    return encoded(Document(msgspec.to_builtins(own), str(file.absolute())))


def batch_of(parcel: Parcel) -> BatchSpec:
    """The batch that a parcel holds: of a specification, or of Python.

    Raises:
        UsageError: It is not what this version sends, or cannot be used here.
    """
    from aurora_swarm.batch.plan import decoded, revived  # noqa: PLC0415
    from aurora_swarm.cli.run import batch_spec  # noqa: PLC0415
    from aurora_swarm.inputs.spec import RunSpec  # noqa: PLC0415

    if parcel.kind == "python":
        return revived(parcel)
    try:
        document = msgspec.convert(decoded(parcel.body), Document)
        said = msgspec.convert(document.said, RunSpec)
    except (msgspec.MsgspecError, ValueError) as problem:
        remedy = "use the same version of aurora-swarm in all processes"
        raise UsageError(f"the run was made by another version: {problem}", remedy=remedy) from problem
    return batch_spec(said, Path(document.file))
