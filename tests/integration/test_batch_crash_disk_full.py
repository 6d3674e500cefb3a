"""A disk that is full while a batch runs: it ends at once, says what is unsaved, and goes on once there is room."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.testing.faulty_server import FaultyServer

INPUTS, WIDTH = 60, 4
CHARS = 20_000
LIMIT_BYTES = 500_000


def run(folder: Path, server: FaultyServer, *, full: bool) -> tuple[int, list[dict[str, Any]], str]:
    """Map the inputs; the journal's files may grow to `LIMIT_BYTES` and no further where the disk is to be full."""
    command = [sys.executable, "-m", "aurora_swarm", "map", "Repeat: {text}", "--input", "in.txt", "--journal", "j"]
    command += ["--backend", server.url, "--max-inflight", str(WIDTH)]

    def limit() -> None:
        if full:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))

    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60, preexec_fn=limit
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def asked(server: FaultyServer) -> int:
    return sum(request.method == "POST" for request in server.requests)


def test_a_disk_that_is_full_ends_a_batch_which_says_what_is_unsaved_and_can_go_on(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{n} {'x' * CHARS}\n" for n in range(INPUTS)))
    server = serve()
    code, told, said = run(tmp_path, server, full=True)
    assert code == 1, said
    assert "Traceback" not in said
    assert f"{tmp_path / 'j'}" in said
    assert re.search(r"^  unsaved: \d", said, re.MULTILINE), said
    assert re.search(r"^  try: ", said, re.MULTILINE), said
    assert 0 < len(told) < INPUTS
    # Nothing new was begun after the first write that failed.
    assert asked(server) <= len(told) + 2 * WIDTH

    before = asked(server)
    code, again, said = run(tmp_path, server, full=False)
    assert code == 0, said
    assert sorted(result["index"] for result in again) == list(range(INPUTS))
    assert all(result["output"] == f"Repeat: {result['index']} {'x' * CHARS}" for result in again)
    resumed = {result["index"] for result in again if result["resumed"]}
    assert resumed >= {result["index"] for result in told}
    assert asked(server) - before == INPUTS - len(resumed)


@pytest.mark.parametrize("limit_bytes", [0, 1, 4_096])
def test_a_disk_that_is_full_from_the_beginning_is_said_before_anything_is_asked(
    serve: Any, tmp_path: Path, limit_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("one\n")
    server = serve()
    monkeypatch.setattr(sys.modules[__name__], "LIMIT_BYTES", limit_bytes)
    code, told, said = run(tmp_path, server, full=True)
    assert (code, told, asked(server)) == (1, [], 0), said
    assert "Traceback" not in said
    assert re.search(r"^  try: (free space|check the disk)", said, re.MULTILINE), said
