"""Check that functions and files stay short.

    python scripts/check_functions.py DIR ...

A function's length is its lines from `def` to its end, docstring included, decorators not. The limits are those of
CONTRIBUTING.md: none above 100 lines, at most 3 % above 50, no file above 500. The median is printed, not judged.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

LONGEST = 100
LONG = 50
LONG_SHARE = 0.03
LONGEST_FILE = 500


def lengths(path: Path) -> dict[str, int]:
    """Lines of every function in a file, by its place as editors know it."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found[f"{path}:{node.lineno} {node.name}"] = (node.end_lineno or node.lineno) - node.lineno + 1
    return found


def complaints(functions: dict[str, int], files: dict[str, int]) -> list[str]:
    """What is above a limit, as sentences."""
    said = [f"{place}: {n} lines, {LONGEST} are allowed" for place, n in functions.items() if n > LONGEST]
    said += [f"{path}: {n} lines, {LONGEST_FILE} are allowed" for path, n in files.items() if n > LONGEST_FILE]
    long = {place: n for place, n in functions.items() if n > LONG}
    if len(long) > LONG_SHARE * len(functions):
        said.append(f"{len(long)} of {len(functions)} functions are above {LONG} lines, {LONG_SHARE:.0%} may be:")
        said += [f"  {place}: {n} lines" for place, n in long.items()]
    return said


def main(folders: list[str]) -> int:
    """Check every Python file beneath the folders; prints what is wrong."""
    paths = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
    functions = {place: n for path in paths for place, n in lengths(path).items()}
    files = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    said = complaints(functions, files)
    for line in said:
        print(line)
    median = statistics.median(functions.values()) if functions else 0
    print(f"{len(files)} files, {len(functions)} functions, median {median:g} lines")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
