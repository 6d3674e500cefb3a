"""Ctrl-C, SIGTERM and SIGKILL in the middle of a run, as real processes see them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import Answer, FaultyServer, Request
from aurora_swarm.testing.fleet import ServerPlan, fleet_process

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
    assert f"interrupted: {len(run.lines())} of {N} inputs" in said  # what has ended is in the file
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


IN_FLIGHT = 10_000


@pytest.mark.platform
@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1.5 * IN_FLIGHT, reason="too few open files")
def test_ten_thousand_in_flight_end_within_two_seconds(tmp_path: Path) -> None:
    with fleet_process([ServerPlan(capacity=400, latency_s=60.0, tokens=4)] * 40) as fleet:
        (tmp_path / "hosts").write_text("".join(f"{each.host}:{each.port}\n" for each in fleet.endpoints))
        (tmp_path / "in.txt").write_text("".join(f"line {n}\n" for n in range(3 * IN_FLIGHT)))
        command = [sys.executable, "-m", "aurora_swarm", "map", "Repeat: {text}", "-i", "in.txt", "-o", "out.jsonl"]
        command += ["--hostfile", "hosts", "--max-inflight", str(IN_FLIGHT)]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            try:
                until(lambda: fleet.counts().running >= 0.99 * IN_FLIGHT, process)
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=20)
                took_s = time.monotonic() - began
            finally:
                process.kill()
    assert process.returncode == 130
    assert took_s < 2.0
    assert f"interrupted: 0 of {3 * IN_FLIGHT} inputs" in said
    assert "the same command resumes" in said
    assert "Traceback" not in said


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "the run never got that far"
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)


def test_a_second_ctrl_c_waits_for_nothing(serve: Any, tmp_path: Path) -> None:
    program = """
import asyncio, sys
from aurora_swarm.cli.interrupts import run_interruptibly

async def main():
    try:
        print("ready", flush=True)
        await asyncio.sleep(60)
    finally:
        print("ending", flush=True)
        await asyncio.sleep(60)

run_interruptibly(main(), lambda: print("last words", flush=True))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=10)
    assert (process.returncode, said) == (130, "")


TOOLS = """
import asyncio, json, sys, threading, time
from pathlib import Path
from aurora_swarm.batch.run import BatchOptions
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.cli.batches import Batch, Delivery, conduct
from aurora_swarm.cli.sources import Source
from aurora_swarm.tools.definition import Tool

@Tool.define(timeout={timeout})
{kind} look_up(name: str) -> str:
    \"\"\"Look a name up.

    Args:
        name: What to look up.
    \"\"\"
    Path("called").touch()
    {body}
    return "found"

class Broken:
    def emit(self, event):
        raise RuntimeError("a sink that raises")

def told(result):
    raise RuntimeError("a callback that raises")

options = BatchOptions(backend=sys.argv[1], sinks=(Broken(),), on_result={on_result})
spec = BatchSpec(task="Look up {{n}}", tools=(look_up,), max_turns=2)
try:
    code = conduct(Batch(spec, Source([{{"n": "a"}}, {{"n": "b"}}], 2), options), Delivery(Path("out.jsonl")))
except KeyboardInterrupt:
    code = 130
sys.exit(code)
"""


def caller(request: Request) -> Answer:
    """A model that calls its tool, and then answers."""
    if request.method == "GET":
        return Answer()
    heard = len(request.json()["messages"]) > 3
    said = {"answer": "done"} if heard else {"tool": "look_up", "arguments": {"name": "a"}}
    return Answer(answers.encode(answers.chat(json.dumps(said))))


def with_a_tool(folder: Path, url: str, **parts: str) -> subprocess.Popen[str]:
    program = TOOLS.format(**{"timeout": "60", "kind": "async def", "on_result": "None"} | parts)
    return subprocess.Popen(
        [sys.executable, "-c", program, url], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("kind", "body"),
    [("def", "time.sleep(3600)"), ("async def", "await asyncio.sleep(3600)"), ("def", "threading.Event().wait()")],
)
def test_a_tool_that_never_returns_keeps_nobody_from_ending(serve: Any, tmp_path: Path, kind: str, body: str) -> None:
    process = with_a_tool(tmp_path, serve(caller).url, kind=kind, body=body)
    until((tmp_path / "called").exists, process)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert time.monotonic() - began < 2.5
    assert "interrupted: 0 of 2 inputs" in said
    assert "Traceback" not in said


def test_a_tool_that_never_returns_costs_its_time_and_the_agent_goes_on(serve: Any, tmp_path: Path) -> None:
    process = with_a_tool(tmp_path, serve(caller).url, timeout="0.3", kind="def", body="time.sleep(3600)")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert all("done" in json.loads(line)["output"] for line in lines_of(tmp_path / "out.jsonl"))


def test_a_callback_that_raises_fails_its_own_input_and_a_sink_that_raises_none(serve: Any, tmp_path: Path) -> None:
    process = with_a_tool(tmp_path, serve(caller).url, body="pass", on_result="told")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 3
    kinds = [json.loads(line)["error"]["kind"] for line in lines_of(tmp_path / "out.jsonl")]
    assert kinds == ["callback", "callback"]
    assert "2 callback" in said
    assert "Traceback" not in said


def posts(server: FaultyServer) -> int:
    return sum(request.method == "POST" for request in server.requests)
