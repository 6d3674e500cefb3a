"""The embedded model behind the command line: real llama.cpp, real weights, no child left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aurora_swarm.cli import main

pytestmark = pytest.mark.local_model


def children_of(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(pid):
            found.add(int(entry.name))
    return found


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """`aurora-swarm local`, and the URLs that it tells."""
    count = int(options[options.index("--servers") + 1]) if "--servers" in options else 1
    command = [sys.executable, "-m", "aurora_swarm", "local", "--context", "512", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, [process.stdout.readline().strip() for _ in range(count)]
        finally:
            process.kill()


def test_servers_answer_and_leave_no_child(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hostfile = tmp_path / "agents.hostfile"
    with serving("--servers", "2", "--hostfile-out", str(hostfile)) as (process, urls):
        children = children_of(process.pid)
        assert len(children) == 2
        assert main(["endpoints", "--hostfile", str(hostfile), "--json"]) == 0
        assert [found["endpoint"] for found in json.loads(capfd.readouterr().out)] == urls
        assert main(["ask", "Say hello.", "--max-tokens", "5", "-b", urls[0]]) == 0
        assert capfd.readouterr().out.strip()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 130
        assert time.monotonic() - began < 2.5
        assert all(is_gone(child) for child in children)


def test_a_killed_parent_leaves_no_child() -> None:
    with serving() as (process, _):
        children = children_of(process.pid)
        assert children
        process.kill()
        end = time.monotonic() + 10
        while not all(is_gone(child) for child in children) and time.monotonic() < end:
            time.sleep(0.05)
        assert all(is_gone(child) for child in children)


def test_a_server_that_dies_is_told() -> None:
    with serving() as (process, _):
        (child,) = children_of(process.pid)
        os.kill(child, signal.SIGKILL)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 2
        assert "error: " in said
        assert "SIGKILL" in said


def test_a_port_in_use_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["local", "--port", str(port), "--context", "512", "--quiet"]) == 2
    said = capfd.readouterr().err
    assert f"port {port} on 127.0.0.1 is in use" in said
    assert "  try: give another port" in said


CERTAIN = ("--temperature", "0", "--max-tokens", "80")
"""With dice and forty tokens a small model once gave three invalid answers in a row."""


def test_a_batch_runs_on_the_embedded_model(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("Paris is the capital of France.\nThe sky is blue.\n")
    schema = {"type": "object", "properties": {"topic": {"type": "string", "maxLength": 20}}, "required": ["topic"]}
    (tmp_path / "s.json").write_text(json.dumps(schema))
    out = tmp_path / "out.jsonl"
    command = [
        "map",
        "What is this about? {text}",
        "-i",
        str(tmp_path / "in.txt"),
        "--schema",
        str(tmp_path / "s.json"),
    ]
    assert main([*command, "-b", "local://?slots=2&context=512", *CERTAIN, "-o", str(out)]) == 0
    assert all(set(json.loads(line)["output"]) == {"topic"} for line in out.read_text().splitlines())
    assert not children_of(os.getpid())
