"""Every example runs on the embedded model, as a user would start it, and prints what it promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.local_model

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
PROMISED = {
    "scatter_gather.py": r"France: .+\n(.*\n)*\n8 answers, 0 failures; \d+ tokens",
    "broadcast_and_reduce.py": r"2 answers are in it, 0 are missing; \d+ tokens",
    "tree_reduce.py": r"9 of 9 notes are in it; missing: \[\]; 1[3-9] requests",
    "blackboard.py": r"2 rounds, [1-9]\d* prompt tokens from caches\n\none round more, .+: \[3, 3\] entries",
    "pipeline.py": r"(?s)Buy a second furnace\.\n  \w.*",
    "fan_out_fan_in.py": r"made of 2 drafts",
    "sequential_vote.py": r"'.+' after [1-9]\d? voters: \{.+\}\n'.+' after all 16",
    "debate.py": r"Judge: .+\n[\s\S]*prompt tokens, [1-9]\d* of them from the servers' caches",
    "embeddings.py": r"4 vectors of \d+ numbers; agreement 0\.\d\d",
    "ask_a_person.py": r"Order: large\nLetter: .+\n1 question asked",
    "swarm.py": r"[1-3] of [1-3] tasks are in it; \d+ tokens",
    "hivemind.py": r"3 of 3 answered; \d+ tokens",
    "messages.py": r"(?s)valves: .+asked (valves|furnace|kitchen), who answered: \w",
    "long_objective.py": r"3 chunks, \d+ passages, in .+\n(\n.+\?\n  .+\n(  \d\. in chunk \d: .+\n){4}){2}",
    "particle_swarm.py": r"(round \d, particle \d: .+\n){9}\nbest after each round: .+",
    "orchestrator.py": r"4 of 4 tasks are done; \d+ tokens",
}


def test_every_example_is_run_and_listed() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PROMISED)
    listed = re.findall(r"^\| `(\w+\.py)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert set(listed) == set(PROMISED)


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_an_example_runs_on_the_embedded_model(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(PROMISED[name], done.stdout), done.stdout
