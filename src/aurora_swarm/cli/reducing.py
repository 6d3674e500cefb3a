"""A batch whose answers become one: the results to their place as they finish, then the reduction."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from aurora_swarm.batch.phases import open_phases
from aurora_swarm.batch.reduce import Reduction, Summary, reduce_results
from aurora_swarm.batch.run import BatchOptions, Inputs
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.cli.results import Results
from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.telemetry.tally import Tally
from aurora_swarm.values.outcome import AgentResult


async def run_and_reduce(
    spec: BatchSpec, inputs: Inputs, reduction: Reduction, options: BatchOptions, *, results: Results, tally: Tally
) -> Summary[Any]:
    """Run a batch, then make one answer of its answers.

    Unlike a batch alone it holds every result until the end: they are what is reduced.

    Args:
        spec: What is done with each input.
        inputs: Not endless.
        reduction: How the answers become one.
        options: Where it runs.
        results: Takes each result as it finishes.
        tally: Counts the inputs, and of the reduction only what it spends.

    Raises:
        UsageError: Something given is wrong, or there is no input.
        StorageError: Results or the journal cannot be written any more.
    """
    writer = _Writer(results)
    async with open_phases(msgspec.structs.replace(options, on_result=writer), spec.sampling) as phases:
        try:
            found = await phases.run(spec, inputs, told=True)
        except asyncio.CancelledError:
            writer.check()
            raise
        writer.check()
        if not found:
            raise UsageError("there are no inputs, and so nothing to reduce", remedy="give one input at least")
        tally.count_spending_only()
        if options.say is not None:
            options.say(f"making one answer of {sum(result.ok for result in found)}")
        return await reduce_results(phases, spec, found, reduction)


class _Writer:
    """Writes results; when that fails it ends the run, because what a callback raises would end one agent only."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._error: StorageError | None = None
        self._owner = asyncio.current_task()

    def __call__(self, result: AgentResult[Any]) -> None:
        if self._error is not None:
            return
        try:
            self._results.write(result)
        except StorageError as error:
            self._error = error
            if self._owner is not None:
                self._owner.cancel()

    def check(self) -> None:
        """Raise what has ended the run, if something did."""
        if self._error is not None:
            if self._owner is not None:
                self._owner.uncancel()
            raise self._error


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
