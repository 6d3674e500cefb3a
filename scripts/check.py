"""Run the checks that the project is kept by: all of them, or those that are named.

    python scripts/check.py [--root DIR] [NAME ...]

Every check runs even after one has failed, each prints its own output, and the exit code is 1 if any failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BIN = Path(sys.executable).parent
SCRIPTS = Path(__file__).resolve().parent
HEARTBEAT_S = 4.0
TYPED = ("src", "scripts", "tests/typing")

CHECKS: Mapping[str, Sequence[str]] = {
    "lint": (str(BIN / "ruff"), "check", "."),
    "format": (str(BIN / "ruff"), "format", "--check", "."),
    "tree": (sys.executable, str(SCRIPTS / "check_tree.py")),
    "functions": (sys.executable, str(SCRIPTS / "check_functions.py"), "src", "scripts"),
    "layers": (str(BIN / "lint-imports"), "--no-logo", "--no-cache"),
    "types": (str(BIN / "mypy"), *TYPED),
}


def passes(name: str, root: Path) -> bool:
    """Run one check over the tree at `root`; its output goes to ours."""
    command = [part for part in CHECKS[name] if part not in TYPED or (root / part).exists()]
    started = time.monotonic()
    # The tree's own sources come first, also where another copy of the package is installed.
    environ = os.environ | {"PYTHONPATH": str(root / "src")}
    with subprocess.Popen(command, cwd=root, env=environ) as process:
        while _still_runs(process):
            print(f"check {name}: still running ... {time.monotonic() - started:.0f} s", flush=True)
    verdict = "ok" if process.returncode == 0 else "FAILED"
    print(f"check {name}: {verdict} ({time.monotonic() - started:.1f} s)", flush=True)
    return process.returncode == 0


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(HEARTBEAT_S)
    except subprocess.TimeoutExpired:
        return True
    return False


def main() -> int:
    """Run what the command line names, everything by default."""
    parser = argparse.ArgumentParser(description="Run the project's checks.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(CHECKS)} (default: all)")
    parser.add_argument("--root", type=Path, default=SCRIPTS.parent, help="the tree to check (default: this one)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - CHECKS.keys():
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    failed = [name for name in arguments.names or CHECKS if not passes(name, arguments.root.resolve())]
    if failed:
        print(f"checks that failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
