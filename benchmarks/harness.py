"""What every benchmark needs: a core of its own, medians over rounds, a table, and a file of figures.

A figure is a ratio of two things that were measured in one run on one machine; absolute numbers stand beside it to
show what was compared. A run with ``--quick`` is for development: its figures go to `.bench/quick/` and are quoted
nowhere.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import platform
import resource
import signal
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SCRATCH = ROOT / ".bench"

CLIENT_CORE, SERVER_CORE = 0, 1


class Goal(msgspec.Struct, frozen=True):
    """One figure and what it was meant to be.

    Args:
        figure: What was measured, as a short sentence.
        value: The figure.
        at_least: The least that meets the goal; None where there is no lower bound.
        at_most: The most that meets the goal; None where there is no upper bound.
        unit: Unit of all three; empty for a plain ratio.
    """

    figure: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is within its bounds."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    def as_dict(self) -> dict[str, Any]:
        """Plain data; bounds that are not set are left out."""
        data = {**msgspec.structs.asdict(self), "met": self.met}
        return {name: value for name, value in data.items() if value is not None}


class Report(msgspec.Struct):
    """What one benchmark found.

    Args:
        name: File name of the figures, without its ending.
        id: The row of the list of goals that it answers.
        question: What was asked.
        how: How it was measured, in one or two sentences.
        columns: Heads of the table.
        rows: The table: what was compared, with absolute numbers.
        goals: The figures.
        notes: What a reader must know to judge them.
    """

    name: str
    id: str
    question: str
    how: str
    columns: Sequence[str] = ()
    rows: list[Sequence[Any]] = []
    goals: list[Goal] = []
    notes: list[str] = []

    def row(self, *cells: Any) -> None:
        """Add a line to the table."""
        self.rows.append(cells)

    def goal(self, figure: str, value: float, **bounds: Any) -> None:
        """Add a figure; `bounds` as for `Goal`."""
        self.goals.append(Goal(figure, round(value, 4), **bounds))

    def as_dict(self) -> dict[str, Any]:
        """What is written to the file."""
        data = msgspec.structs.asdict(self)
        rows = [[rounded(cell) for cell in row] for row in self.rows]
        return {**data, "machine": machine(), "rows": rows, "goals": [goal.as_dict() for goal in self.goals]}


def arguments(doc: str | None, add: Callable[[argparse.ArgumentParser], None] | None = None) -> argparse.Namespace:
    """The command line: ``--quick`` and whatever `add` adds."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a short run for development; its figures are not kept")
    if add is not None:
        add(parser)
    return parser.parse_args()


def publish(report: Report, *, quick: bool) -> None:
    """Print a report and write its figures."""
    print_report(report)
    folder = SCRATCH / "quick" if quick else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}.json"
    body = msgspec.json.format(msgspec.json.encode({**report.as_dict(), "quick": quick}), indent=2)
    path.write_bytes(body + b"\n")
    print(f"figures: {path.relative_to(ROOT)}", flush=True)


def print_report(report: Report) -> None:
    """The table, then each figure beside its goal."""
    print(f"\n{report.id}: {report.question}\n{report.how}\n")
    for line in table(report.columns, report.rows):
        print(f"  {line}")
    print()
    for goal in report.goals:
        print(f"  {'met   ' if goal.met else 'MISSED'} {goal.figure}: {goal.value:.3g}{_unit(goal)} ({bound(goal)})")
    for note in report.notes:
        print(f"  note: {note}")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines in which the columns stand below each other; all but the first are right-aligned."""
    lines = [list(columns), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    cells = [
        [c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))] for line in lines
    ]
    return ["  ".join(line).rstrip() for line in cells]


def shown(cell: Any) -> str:
    """A cell as a reader wants it: three digits that count."""
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"


def rounded(cell: Any) -> Any:
    """A cell as the file keeps it."""
    return round(cell, 4) if isinstance(cell, float) else cell


def bound(goal: Goal) -> str:
    """The goal in words."""
    if goal.at_least is None and goal.at_most is None:
        return "no goal"
    signs = ((">=", goal.at_least), ("<=", goal.at_most))
    return "goal " + " and ".join(f"{sign} {value:g}{_unit(goal)}" for sign, value in signs if value is not None)


def _unit(goal: Goal) -> str:
    return f" {goal.unit}" if goal.unit else ""


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing that names the machine."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "architecture": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


# -- cores and processes -------------------------------------------------------------------------------------------


def pin(core: int) -> None:
    """Keep this process, and the threads that it starts from now on, on one core.

    Call it before the first request: the HTTP client starts its threads then. On a machine with one core only, or
    without such a call, nothing happens.
    """
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


def unpin() -> None:
    """Let this process, and the servers that it starts from now on, run on every core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def open_files() -> None:
    """Allow as many open files as the system lets us have without asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def child(command: Sequence[str], *, core: int | None = None, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A server in a process of its own, which ends with the context, and also when this process is killed.

    Args:
        command: The command line.
        core: The core that it is kept on; None for any.
        **options: As for `subprocess.Popen`.
    """
    process = subprocess.Popen(command, preexec_fn=lambda: _begin_child(core), **options)  # noqa: PLW1509 - no threads yet
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _begin_child(core: int | None) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if core is None:
        unpin()
    else:
        pin(core)


def start(report: Callable[[], Awaitable[Report]], *, quick: bool, core: int | None = CLIENT_CORE) -> None:
    """Run a benchmark on the client's core and publish what it found."""
    open_files()
    if core is not None:
        pin(core)
    publish(uvloop.run(report()), quick=quick)


# -- rounds --------------------------------------------------------------------------------------------------------


class Rounds:
    """What each case gave in each round."""

    def __init__(self, seen: Mapping[str, Sequence[float]]) -> None:
        self._seen = seen

    def __getitem__(self, name: str) -> float:
        """The median of one case."""
        return statistics.median(self._seen[name])

    def items(self) -> list[tuple[str, float]]:
        """All cases with their medians."""
        return [(name, self[name]) for name in self._seen]

    def ratio(self, name: str, other: str) -> float:
        """The median over the rounds of one case's figure by another's of the same round."""
        return statistics.median(a / b for a, b in zip(self._seen[name], self._seen[other], strict=True))


async def interleaved(cases: Mapping[str, Callable[[], Awaitable[float]]], rounds: int) -> Rounds:
    """Run all cases over some rounds, after one round of warm-up.

    Every round runs every case once, so that whatever slows the machine for a while slows all of them; every second
    round in the opposite order, so that what one case leaves behind (a warm cache, a hot core) helps none of them.

    Args:
        cases: What to run; each returns its own figure.
        rounds: How many rounds count.
    """
    seen: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, run in list(cases.items())[:: -1 if number % 2 else 1]:
            value = await run()
            if number:
                seen[name].append(value)
        print(f"round {number}/{rounds}" + ("" if number else " (warm-up)"), file=sys.stderr, flush=True)
    return Rounds(seen)
