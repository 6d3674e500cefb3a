"""Every example of an architecture runs on the embedded model, as a user would start it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.local_model

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples" / "architectures"
PROMISED = {
    "hierarchical.py": r"(Lind: Oslo.*: (Warsaw|Naples)|Okafor: Warsaw.*: Naples).*\n3 parts are in it, 0 are missing",
    "collaborative.py": r"(?s)cost, propose: .*Decided: .*; agreement [01]\.\d\d",
    "competitive.py": r"By agreement: city=.* of \[.+\]\nBy a check: city=.* of \['.+', '.+', '.+'\]",
    "debate.py": r"(?s)(saver: .*builder: |builder: .*saver: ).*judge: \w.*\n\d+ tokens, \d+ of 20,000 spent",
    "mixture.py": r"(?s)layer 1 1: .*aggregate 1: \w.*\nMade of 3: \w",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PROMISED)


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_an_example_runs_on_the_embedded_model(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PROMISED[name], done.stdout), done.stdout
