"""The live view on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aurora_swarm.cli.progress import Latest
from aurora_swarm.cli.summary import Summary, as_line
from aurora_swarm.cli.voice import clock, shown


class LiveProgress:
    """A bar, the counts, the latest answers and failures; drawn four times a second by a thread of its own.

    Args:
        figures: What the run has come to.
        latest: The latest results and failures.
        console: Where to draw; stderr by default.
    """

    def __init__(self, figures: Callable[[], Summary], latest: Latest, console: Console | None = None) -> None:
        self._figures = figures
        self._latest = latest
        self._console = console or Console(stderr=True)
        self._began = time.monotonic()
        self._status = "starting"
        self._live = Live(
            get_renderable=self.render, console=self._console, refresh_per_second=4, redirect_stdout=False
        )

    def say(self, text: str) -> None:
        """Show a sentence above the view, and in it while there are no results yet."""
        self._status = text
        self._console.print(Text(shown(text)))

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def render(self) -> RenderableType:
        """The view as it is now."""
        summary = self._figures()
        elapsed = clock(time.monotonic() - self._began)
        if not summary.wall_s:
            return Text.assemble((f"[{elapsed}] ", "dim"), f"{shown(self._status)} ...", overflow="ellipsis")
        latest = [Text(f"  {line}", "dim", no_wrap=True, overflow="ellipsis") for line in self._latest.results]
        failures = [Text(f"  {line}", "red", no_wrap=True, overflow="ellipsis") for line in self._latest.failures]
        return Group(_bar(summary), Text(f"[{elapsed}] {as_line(summary)}", no_wrap=True), *latest, *failures)


def _bar(summary: Summary) -> RenderableType:
    grid = Table.grid(expand=True)
    share = f" {100 * summary.done // summary.total:3d} %" if summary.total else ""
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    bar = ProgressBar(total=summary.total, completed=summary.done, pulse=summary.total is None)
    grid.add_row(bar, Text(share))
    return grid
