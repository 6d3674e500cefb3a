"""The page on performance quotes the benchmarks' own files, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_page", ROOT / "benchmarks" / "write_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write_page = load()


def test_the_page_is_what_the_files_say() -> None:
    page = write_page.PAGE.read_text(encoding="utf-8")

    assert page == write_page.written(page, write_page.results()), "run: python benchmarks/write_page.py"


def test_the_rest_of_the_page_quotes_no_figure() -> None:
    page = write_page.PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(write_page.BEGIN)
    own = before + rest.partition(write_page.END)[2]

    assert not re.search(r"\d+([.,]\d+)? ?(%|x\b|ms\b|s\b|MB|times|requests)", own)


def test_every_file_of_figures_is_complete_and_says_the_truth_about_its_goals() -> None:
    assert RESULTS, "run: make bench"
    for path in RESULTS:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        assert result["name"] == path.stem
        assert result["quick"] is False
        assert result["machine"].keys() == {"cores", "memory_gib", "architecture", "system", "python"}
        assert result["goals"]
        for goal in result["goals"]:
            value = goal["value"]
            assert goal["met"] == (goal.get("at_least", value) <= value <= goal.get("at_most", value))


def test_a_changed_figure_changes_the_page(tmp_path: Path) -> None:
    machine = {"cores": 2, "memory_gib": 24, "architecture": "x", "system": "Linux", "python": "3.12"}
    goal = {"figure": "share", "value": 0.61, "at_least": 0.6, "met": True, "unit": ""}
    result = {
        "id": "P1", "question": "How much?", "how": "So.", "machine": machine,
        "columns": ["who", "rate"], "rows": [["bare", 30_000]], "goals": [goal], "notes": [],
    }  # fmt: skip
    (tmp_path / "one.json").write_text(json.dumps(result))
    page = f"# Title\n{write_page.BEGIN}\nold\n{write_page.END}\nrest\n"

    found = write_page.written(page, write_page.results(tmp_path))

    assert "| P1 | share | 0.61 | at least 0.6 | yes |" in found
    assert "| bare | 30,000 |" in found
    assert "old" not in found
    assert found.endswith("rest\n")
