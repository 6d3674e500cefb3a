"""A batch whose answers become one: the results to their place as they finish, then the reduction."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.phases import open_phases
from aurora_swarm.batch.reduce import Reduction, Summary, reduce_results
from aurora_swarm.batch.run import BatchOptions, Inputs
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.cli.writing import Writer
from aurora_swarm.errors import UsageError
from aurora_swarm.telemetry.tally import Tally


async def run_and_reduce(
    spec: BatchSpec,
    inputs: Inputs,
    reduction: Reduction,
    options: BatchOptions,
    *,
    writer: Writer,
    tally: Tally,
    purse: Purse | None,
) -> Summary[Any]:
    """Run a batch, then make one answer of its answers.

    Unlike a batch alone it holds every result until the end: they are what is reduced.

    Args:
        spec: What is done with each input.
        inputs: Not endless.
        reduction: How the answers become one.
        options: Where it runs.
        writer: Writes each result as it finishes, and cancels this when it cannot.
        tally: Counts the inputs, and of the reduction only what it spends.
        purse: Out of which both are paid.

    Raises:
        UsageError: Something given is wrong, or there is no input.
        StorageError: Results or the journal cannot be written any more.
    """
    options = msgspec.structs.replace(options, sinks=(writer, *options.sinks))
    async with open_phases(options, spec.sampling, purse=purse) as phases:
        try:
            found = await phases.run(spec, inputs, told=True)
        except asyncio.CancelledError:
            writer.check()
            raise
        writer.check()
        if not found:
            raise UsageError("there are no inputs, and so nothing to reduce", remedy="give one input at least")
        writer.stop()
        tally.count_spending_only()
        if options.say is not None:
            options.say(f"making one answer of {sum(result.ok for result in found)}")
        return await reduce_results(phases, spec, found, reduction)


def as_plain_data(summary: Summary[Any]) -> dict[str, Any]:
    """The one answer, for programs."""
    data = summary.as_dict()
    return {name: data[name] for name in ("ok", "output", "n_ok", "missing", "steps", "levels")} | {
        "error": {"kind": summary.error.kind, "message": str(summary.error)} if summary.error else None
    }


def as_words(summary: Summary[Any]) -> str:
    """The one answer, for people: a text as it is, anything else as JSON."""
    output = summary.as_dict()["output"]
    return output if isinstance(output, str) else msgspec.json.format(msgspec.json.encode(output), indent=2).decode()
