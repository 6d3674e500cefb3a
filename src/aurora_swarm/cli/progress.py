"""How a batch is followed: a live view on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from aurora_swarm.cli.heartbeat import PlainProgress, Progress, Silence
from aurora_swarm.cli.summary import Summary, as_line
from aurora_swarm.cli.voice import one_line
from aurora_swarm.values.event import AgentEnded, Event
from aurora_swarm.values.outcome import AgentResult


class Latest:
    """A sink that remembers the latest results and failures; only who looks at them pays for their words.

    Args:
        count: How many of either.
    """

    def __init__(self, count: int = 3) -> None:
        self._results: deque[AgentResult[Any]] = deque(maxlen=count)
        self._failures: deque[AgentResult[Any]] = deque(maxlen=count)

    def emit(self, event: Event) -> None:
        """Take note of one event."""
        if isinstance(event, AgentEnded):
            (self._results if event.result.error is None else self._failures).append(event.result)

    @property
    def results(self) -> list[str]:
        """The latest answers, a line each, the newest last."""
        return [f"{result.index}: {condensed(result)}" for result in self._results.copy()]

    @property
    def failures(self) -> list[str]:
        """The latest failures, a line each, the newest last."""
        return [f"{r.index}: {r.error.kind}: {one_line(str(r.error), 200)}" for r in self._failures.copy() if r.error]


def condensed(result: AgentResult[Any]) -> str:
    """An answer on one line."""
    output: Any = result.output
    value = output.model_dump(mode="json") if hasattr(output, "model_dump") else output
    if isinstance(value, dict):
        value = ", ".join(f"{name}: {part}" for name, part in value.items())
    return one_line(str(value), 200)


def open_progress(figures: Callable[[], Summary], latest: Latest, *, quiet: bool) -> Progress:
    """What suits where stderr goes.

    Args:
        figures: What the run has come to.
        latest: The latest results and failures.
        quiet: Show nothing.
    """
    if quiet:
        return Silence()
    if sys.stderr.isatty():
        from aurora_swarm.cli.live import LiveProgress  # noqa: PLC0415 - rich is loaded only for a terminal

        return LiveProgress(figures, latest)
    return PlainProgress(describer(figures, latest))


def describer(figures: Callable[[], Summary], latest: Latest) -> Callable[[], str]:
    """A function that says how far a batch is; a failure that is new since its last call is named."""
    told = ""

    def describe() -> str:
        nonlocal told
        summary = figures()
        failure = next(reversed(latest.failures), "")
        news = f"\n  last failure: input {failure}" if failure != told else ""
        told = failure
        return as_line(summary) + news if summary.wall_s else ""

    return describe
