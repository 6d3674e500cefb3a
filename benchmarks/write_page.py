"""Write the figures of `benchmarks/results/` into `docs/explanation/performance.md`.

Whatever stands between the two marks of the page is replaced. Run it after the benchmarks::

    python benchmarks/write_page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "explanation" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """What the benchmarks found, in the order of their ids."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sorted(found, key=lambda result: (result["id"][0], int(re.sub(r"\D", "", result["id"]))))


def written(page: str, found: Sequence[dict[str, Any]]) -> str:
    """The page with these figures."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{figures(found)}\n{END}{after}"


def figures(found: Sequence[dict[str, Any]]) -> str:
    """An overview of all goals, then a section per benchmark."""
    heads = ("", "what", "figure", "goal", "met")
    goals = [(result["id"], *goal_cells(goal)) for result in found for goal in result["goals"] if has_bound(goal)]
    return "\n".join([*table(heads, goals), "", *(line for result in found for line in section(result))])


def section(result: dict[str, Any]) -> list[str]:
    """One benchmark: what was asked, how, the table, and what must be known."""
    facts = result["machine"]
    where = f"{facts['cores']} cores, {facts['memory_gib']} GiB, {facts['architecture']}, Python {facts['python']}"
    compared = [(g["figure"], *goal_cells(g)[1:2]) for g in result["goals"] if not has_bound(g)]
    extra = ["", *table(("for comparison", "figure"), compared)] if compared else []
    rows = [[cell(value) for value in row] for row in result["rows"]]
    notes = [f"- {note}" for note in result.get("notes", ())]
    title = [f"## {result['id']}: {result['question']}", "", f"{result['how']} ({where}.)", ""]
    return [*title, *table(result["columns"], rows), *extra, "", *notes, *([""] if notes else [])]


def has_bound(goal: dict[str, Any]) -> bool:
    """Whether the figure has a goal, or is there to compare with."""
    return "at_least" in goal or "at_most" in goal


def goal_cells(goal: dict[str, Any]) -> tuple[str, str, str, str]:
    """One line of the overview."""
    unit = f" {goal['unit']}" if goal.get("unit") else ""
    signs = (("at least", goal.get("at_least")), ("at most", goal.get("at_most")))
    bounds = " and ".join(f"{sign} {value:g}{unit}" for sign, value in signs if value is not None)
    return goal["figure"], f"{cell(goal['value'])}{unit}", bounds, "yes" if goal["met"] else "**no**"


def cell(value: Any) -> str:
    """A number as a reader wants it."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    lines = [heads, ["---", *(["---:"] * (len(heads) - 1))], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), results()), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
