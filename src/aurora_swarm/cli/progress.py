"""How a batch is followed: a live view on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from aurora_swarm.cli.heartbeat import PlainProgress, Progress, Silence
from aurora_swarm.cli.summary import as_line, summarise
from aurora_swarm.cli.voice import one_line
from aurora_swarm.telemetry.tally import Tally
from aurora_swarm.values.event import AgentEnded, Event
from aurora_swarm.values.outcome import AgentResult


class Latest:
    """A sink that remembers the latest results and failures, a line each.

    Args:
        lines: How many of either.
    """

    def __init__(self, lines: int = 3) -> None:
        self.results: deque[str] = deque(maxlen=lines)
        self.failures: deque[str] = deque(maxlen=lines)

    def emit(self, event: Event) -> None:
        """Take note of one event."""
        if not isinstance(event, AgentEnded):
            return
        result = event.result
        if result.error is None:
            self.results.append(f"{result.index}: {condensed(result)}")
        else:
            self.failures.append(f"{result.index}: {result.error.kind}: {one_line(str(result.error), 200)}")


def condensed(result: AgentResult[Any]) -> str:
    """An answer on one line."""
    output: Any = result.output
    value = output.model_dump(mode="json") if hasattr(output, "model_dump") else output
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {part}" for name, part in value.items())
    return one_line(str(value), 200)


def open_progress(tally: Tally, latest: Latest, total: int | None, *, quiet: bool) -> Progress:
    """What suits where stderr goes.

    Args:
        tally: What is counted.
        latest: The latest results and failures.
        total: How many inputs there are; None while nobody knows.
        quiet: Show nothing.
    """
    if quiet:
        return Silence()
    if sys.stderr.isatty():
        from aurora_swarm.cli.live import LiveProgress  # noqa: PLC0415 - rich is loaded only for a terminal

        return LiveProgress(tally, latest, total)
    return PlainProgress(describer(tally, latest, total))


def describer(tally: Tally, latest: Latest, total: int | None) -> Callable[[], str]:
    """A function that says how far a batch is; a failure that is new since its last call is named."""
    told = ""

    def describe() -> str:
        nonlocal told
        summary = summarise(tally, total)
        failure = latest.failures[-1] if latest.failures else ""
        news = f"\n  last failure: input {failure}" if failure != told else ""
        told = failure
        return as_line(summary) + news if summary.wall_s else ""

    return describe
