"""Write the figures of `bench_c7_architectures.py` into `docs/explanation/when-many-agents-help.md`.

Run it after the benchmark::

    python benchmarks/write_architectures_page.py
"""

from __future__ import annotations

from write_page import RESULTS, ROOT, results, written

PAGE = ROOT / "docs" / "explanation" / "when-many-agents-help.md"

if __name__ == "__main__":
    found = [result for result in results(RESULTS) if result["id"] == "C7"]
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
