"""Runs one batch for a command: results to their place, progress on stderr, a summary at the end."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.reduce import Reduction
from aurora_swarm.batch.reduce import Summary as Reduced
from aurora_swarm.batch.run import BatchOptions, purse_of, run_batch
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.cli.exits import exit_of
from aurora_swarm.cli.interrupts import run_interruptibly
from aurora_swarm.cli.keeping import Kept
from aurora_swarm.cli.progress import Latest, open_progress
from aurora_swarm.cli.reducing import as_plain_data, as_words, run_and_reduce
from aurora_swarm.cli.results import Results, open_results
from aurora_swarm.cli.sources import Source
from aurora_swarm.cli.summary import Account, Summary, as_json, as_text, summarise
from aurora_swarm.cli.voice import counted, say, tell
from aurora_swarm.cli.writing import Writer
from aurora_swarm.errors import AuroraSwarmError, InputError, StorageError, UsageError
from aurora_swarm.inputs.files import without_credentials
from aurora_swarm.inputs.prices import PriceTable
from aurora_swarm.ports.sink import Sink
from aurora_swarm.telemetry.jsonl import JsonlSink
from aurora_swarm.telemetry.tally import Tally

_OPEN_FILES = 2**16
"""What a process is allowed where the system lets it: more connections than ports there are none."""

_MANY = 100_000
"""Results from which on it takes a while to put them into order, so that it is said."""


class Batch(msgspec.Struct, frozen=True):
    """What to run.

    Args:
        spec: What each agent does.
        source: What they work on.
        options: Where; its journal, sinks and `say` are filled in here.
        prices: What models cost, for the summary.
        reduction: How the answers become one; None where they do not.
        keep: Fields of each input that its line of the results repeats.
    """

    spec: BatchSpec
    source: Source
    options: BatchOptions
    prices: PriceTable | None = None
    reduction: Reduction | None = None
    keep: Sequence[str] = ()


class Delivery(msgspec.Struct, frozen=True):
    """Where results and words go.

    Args:
        output: Results file; None for standard output.
        journal: Path or URL of the journal; None for the output's name and ``.journal``.
        no_journal: Keep none.
        overwrite: Replace results that no journal keeps.
        as_json: The summary as JSON on standard output.
        quiet: Show no progress.
        events: Log of what happens; None for none.
    """

    output: Path | None = None
    journal: str | None = None
    no_journal: bool = False
    overwrite: bool = False
    as_json: bool = False
    quiet: bool = False
    events: Path | None = None

    def journal_place(self) -> str | None:
        """Where the journal of this run is, if there is to be one.

        Raises:
            UsageError: Options contradict each other.
        """
        if self.as_json and self.output is None:
            raise UsageError(
                "--json needs --output, because standard output carries the results otherwise",
                remedy="add --output results.jsonl",
            )
        if self.no_journal and self.journal is not None:
            raise UsageError("--journal and --no-journal are both given", remedy="keep one of the two")
        if self.no_journal:
            return None
        if self.journal is not None and self.output is not None and _path_of(self.journal) == self.output.absolute():
            raise UsageError("--journal and --output name the same file", remedy="give each a file of its own")
        if self.events is not None and self.output is not None and self.events.absolute() == self.output.absolute():
            raise UsageError("--events and --output name the same file", remedy="give each a file of its own")
        if self.journal is None and self.output is not None:
            return f"{self.output}.journal"
        return self.journal

    def check_reduction(self, reduction: Reduction | None) -> None:
        """Make sure that the one answer has a place of its own.

        Raises:
            UsageError: Standard output carries the results.
        """
        if reduction is not None and self.output is None:
            raise UsageError(
                "--reduce needs --output, because standard output carries the results otherwise",
                remedy="add --output results.jsonl; the one answer then goes to standard output",
            )


def conduct(batch: Batch, delivery: Delivery) -> int:
    """Run a batch to its end, or to Ctrl-C.

    Results that are finished are in their file whatever ends the run.

    Returns:
        The exit code.

    Raises:
        UsageError: Something given is wrong.
        StorageError: Results or the journal cannot be written any more.
    """
    _allow_open_files()
    tally, latest = Tally(), Latest()
    purse = purse_of(batch.options)
    figures = partial(summarise, tally, batch.source.total, Account(batch.prices, batch.options.budget, purse))
    journal = delivery.journal_place()
    delivery.check_reduction(batch.reduction)
    kept = journal is not None and _path_of(journal).exists()
    reduced: Reduced[Any] | None = None
    ended: KeyboardInterrupt | AuroraSwarmError | None = None

    def last_words() -> None:
        _report(figures(interrupted=True), delivery, journal, None)

    with closing(open_results(delivery.output, kept=kept or delivery.overwrite)) as results:
        try:
            with _events(delivery.events) as events, open_progress(figures, latest, quiet=delivery.quiet) as progress:
                sinks = (*batch.options.sinks, tally, latest, *events)
                options = msgspec.structs.replace(batch.options, journal=journal, sinks=sinks, say=progress.say)
                progress.say(_intent(batch, delivery, journal))
                reduced = run_interruptibly(_consume(batch, options, results, tally, purse), last_words)
                _finish(results, figures().done, progress.say)
        except (KeyboardInterrupt, AuroraSwarmError) as error:
            ended = error
    summary = figures(interrupted=ended is not None)
    if ended is None or summary.done or isinstance(ended, KeyboardInterrupt):
        _report(summary, delivery, journal, reduced)
    if ended is not None:
        raise ended
    return exit_of(summary.ok, summary.failed + summary.cancelled + (reduced is not None and not reduced.ok))


def _allow_open_files() -> None:
    """As many connections as may be had without asking: the usual limit is a thousand, meant for programs of old."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems have further limits of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _events(path: Path | None) -> Iterator[tuple[Sink, ...]]:
    """The log of what happens, if there is to be one.

    Raises:
        InputError: It cannot be written.
    """
    if path is None:
        yield ()
        return
    try:
        sink = JsonlSink(path)
    except StorageError as error:
        raise InputError(
            f"events cannot be written there: {error.problem}", source=error.path, remedy=error.remedy
        ) from error
    with sink:
        yield (sink,)


def _finish(results: Results, count: int, say_: Callable[[str], None]) -> None:
    if count >= _MANY:
        say_(f"all {count} results are there; putting them into the order of the inputs")
    results.finish()


async def _consume(
    batch: Batch, options: BatchOptions, results: Results, tally: Tally, purse: Purse | None
) -> Reduced[Any] | None:
    kept = Kept(batch.keep)
    inputs = kept.over(batch.source.inputs)
    if batch.reduction is not None:
        writer = Writer(results, kept, asyncio.current_task())
        reducing = run_and_reduce(batch.spec, inputs, batch.reduction, options, writer=writer, tally=tally, purse=purse)
        return await reducing
    writer = Writer(results, kept)
    options = msgspec.structs.replace(options, sinks=(writer, *options.sinks))
    stream = run_batch(batch.spec, inputs, options, purse=purse)
    try:
        async for _ in stream:
            writer.check()
    finally:
        await stream.aclose()
    writer.check()
    return None


def _intent(batch: Batch, delivery: Delivery, journal: str | None) -> str:
    total = batch.source.total
    inputs = "inputs of unknown number" if total is None else counted(total, "input")
    kept = f", journal in {without_credentials(journal)}" if journal is not None else ""
    return f"{inputs}, results to {delivery.output or 'standard output'}{kept}"


def _path_of(journal: str) -> Path:
    return Path(journal.removeprefix("sqlite://")).absolute()


def _report(summary: Summary, delivery: Delivery, journal: str | None, reduced: Reduced[Any] | None) -> None:
    if delivery.as_json:
        more = {} if reduced is None else {"reduced": as_plain_data(reduced)}
        tell(as_json(summary, **more).decode())
        return
    if not delivery.quiet:
        say(as_text(summary))
        if delivery.output is not None:
            say(f"  results {delivery.output}")
        if journal is not None and (summary.interrupted or summary.failed):
            place = without_credentials(journal)
            say(f"  again   the same command resumes from {place}: what is ok is not asked again")
    if reduced is not None:
        _report_reduced(reduced, quiet=delivery.quiet)


def _report_reduced(reduced: Reduced[Any], *, quiet: bool) -> None:
    if reduced.error is not None:
        say(f"error: the answers could not be made one: {reduced.error}")
        return
    if not quiet:
        missing = f", without {len(reduced.missing)} that failed" if reduced.missing else ""
        say(f"  reduced {counted(reduced.n_ok, 'answer')} in {counted(reduced.steps, 'step')}{missing}:")
    tell(as_words(reduced))
