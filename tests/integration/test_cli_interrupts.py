"""Ctrl-C, SIGTERM and SIGKILL in the middle of a run, as real processes see them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.testing.faulty_server import Answer, FaultyServer, Request

N = 200


def slow(request: Request) -> Answer:
    return Answer(delay_s=0.05 if request.method == "POST" else 0.0)


class Run:
    """A `map` over `N` lines in a process group of its own."""

    def __init__(self, folder: Path, server: FaultyServer, *options: str) -> None:
        self.output = folder / "out.jsonl"
        (folder / "in.txt").write_text("".join(f"line {n}\n" for n in range(N)))
        command = [sys.executable, "-m", "aurora_swarm", "map", "Repeat: {text}", "--input", "in.txt"]
        command += ["--backend", server.url, "--max-inflight", "4", "--output", "out.jsonl", *options]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def lines(self) -> list[dict[str, Any]]:
        text = self.output.read_text() if self.output.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, "the run never got that far"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def end(self, number: int) -> tuple[int, str, float]:
        """Send a signal; the exit code, what was said, and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said, time.monotonic() - began


def is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_order(serve: Any, tmp_path: Path, number: int) -> None:
    run = Run(tmp_path, serve(slow))
    run.until(lambda: len(run.lines()) >= 8)
    code, said, took_s = run.end(number)
    assert code == 130
    assert took_s < 2.0
    assert "interrupted:" in said
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert 8 <= len(run.lines()) < N
    assert is_gone(run.process.pid)


def test_a_run_that_was_interrupted_resumes(serve: Any, tmp_path: Path) -> None:
    server = serve(slow)
    run = Run(tmp_path, server)
    run.until(lambda: len(run.lines()) >= 8)
    run.end(signal.SIGINT)
    finished = len(run.lines())
    asked = posts(server)
    again = Run(tmp_path, server, "--json")
    out, said = again.process.communicate(timeout=60)
    assert again.process.returncode == 0, said
    assert json.loads(out)["resumed"] >= finished
    assert posts(server) - asked <= N - finished
    assert [line["index"] for line in again.lines()] == list(range(N))


def test_a_run_that_was_killed_repeats_nothing_that_was_finished(serve: Any, tmp_path: Path) -> None:
    server = serve(slow)
    run = Run(tmp_path, server)
    run.until(lambda: len(run.lines()) >= N // 4)
    run.end(signal.SIGKILL)
    finished = {line["index"] for line in run.lines()}
    asked = posts(server)
    again = Run(tmp_path, server, "--json")
    out, said = again.process.communicate(timeout=60)
    assert again.process.returncode == 0, said
    assert {line["index"] for line in again.lines() if line["resumed"]} >= finished
    assert json.loads(out)["resumed"] >= len(finished)
    assert posts(server) - asked <= N - len(finished)


def test_a_second_run_on_one_journal_is_told_who_holds_it(serve: Any, tmp_path: Path) -> None:
    server = serve(slow)
    run = Run(tmp_path, server)
    run.until(lambda: len(run.lines()) >= 4)
    second = Run(tmp_path, server)
    _, said = second.process.communicate(timeout=30)
    assert second.process.returncode == 2
    assert str(run.process.pid) in said
    assert "  try: " in said
    assert run.process.poll() is None
    before = len(run.lines())
    run.until(lambda: len(run.lines()) > before)  # undisturbed
    run.end(signal.SIGINT)


def test_a_run_that_waits_for_its_inputs_can_be_stopped(serve: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aurora_swarm", "map", "{text}", "--input", "-", "--backend", serve().url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, text=True, start_new_session=True, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("one\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["output"] == "one"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.stderr.read() if process.stderr else ""
    assert process.wait(timeout=20) == 130
    assert time.monotonic() - began < 2.0
    assert "interrupted: 1 input" in said
    process.communicate()


def posts(server: FaultyServer) -> int:
    return sum(request.method == "POST" for request in server.requests)
