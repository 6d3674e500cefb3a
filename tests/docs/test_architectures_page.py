"""The page on when many agents help quotes the benchmark's own file, and nothing else."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "explanation" / "when-many-agents-help.md"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_page", ROOT / "benchmarks" / "write_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_file_says() -> None:
    write_page = load()
    page = PAGE.read_text(encoding="utf-8")
    found = [result for result in write_page.results() if result["id"] == "C7"]

    assert len(found) == 1
    assert page == write_page.written(page, found), "run: python benchmarks/write_architectures_page.py"


def test_the_rest_of_the_page_quotes_no_figure() -> None:
    write_page = load()
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(write_page.BEGIN)

    assert not re.search(r"\d+([.,]\d+)? ?(%|x\b|tokens)|0\.\d", before + rest.partition(write_page.END)[2])
