"""``aurora-swarm sim``, and the other commands against its fleet."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aurora_swarm.cli import main
from aurora_swarm.inputs.hostfile import parse_hostfile


@contextmanager
def simulating(hostfile: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A fleet that listens; what it said is in `said` of the process's standard error once it has ended."""
    command = [sys.executable, "-m", "aurora_swarm", "sim", "--hostfile", str(hostfile), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert "simulated servers listen" in line, line
            yield process
        finally:
            process.kill()


def test_other_commands_use_the_fleet_and_ctrl_c_is_its_normal_end(tmp_path, capfd):
    hostfile, inputs, out = tmp_path / "sim.hostfile", tmp_path / "in.txt", tmp_path / "out.jsonl"
    inputs.write_text("".join(f"word{number}\n" for number in range(300)))
    options = ("--endpoints", "40", "--latency", "0.01", "--dead", "0.1", "--fault", "503:0.02", "--json")
    with simulating(hostfile, *options) as process:
        assert len(parse_hostfile(hostfile)) == 40
        command = ["map", "Say {text}", "-i", str(inputs), "--hostfile", str(hostfile), "-o", str(out), "-q"]
        assert main(command) == 0
        process.send_signal(signal.SIGINT)
        figures, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["output"] for line in lines} == {f"Say word{number}" for number in range(300)}
    counts = json.loads(figures)
    assert counts["answered"] >= 300
    assert counts["endpoints"] == 40
    assert counts["faults"]["refuse"] == 4
    assert counts["running"] == counts["queued"] == 0


def test_it_ends_by_itself_when_told_and_sums_up(tmp_path, capfd):
    hostfile = tmp_path / "h"
    assert main(["sim", "--endpoints", "3", "--duration", "0.2", "--hostfile", str(hostfile)]) == 0
    said = capfd.readouterr().err
    assert "3 simulated servers listen on 127.0.0.1" in said
    assert str(hostfile) in said
    assert "0 requests in" in said
    assert "faults: none" in said


def test_the_default_hostfile_is_written_where_one_stands(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["sim", "--endpoints", "2", "--duration", "0.05", "--quiet"]) == 0
    assert len(parse_hostfile(tmp_path / "sim.hostfile")) == 2


def test_the_fleet_is_seen_by_endpoints(tmp_path, capfd):
    hostfile = tmp_path / "h"
    with simulating(hostfile, "--endpoints", "5", "--engine", "llamacpp", "--model", "my-model", "--capacity", "3"):
        assert main(["endpoints", "--hostfile", str(hostfile), "--json"]) == 0
        seen = json.loads(capfd.readouterr().out)
    assert [(found["models"], found["engine"]) for found in seen] == [(["my-model"], "llamacpp")] * 5


def test_a_live_line_tells_what_goes_on(tmp_path):
    with simulating(tmp_path / "h", "--endpoints", "2") as process:
        assert process.stderr is not None
        timer = threading.Timer(20, process.kill)
        timer.start()
        line = next(line for line in process.stderr if "requests/s" in line)
        timer.cancel()
    assert "0 requests/s" in line
    assert "running" in line
    assert "queued" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--endpoints", "0"], "--endpoints"),
        (["--latency", "-1"], "--latency"),
        (["--latency", "nan"], "--latency"),
        (["--latency", "inf"], "latency_s is inf"),
        (["--dead", "1.5"], "--dead"),
        (["--engine", "nonsense"], "--engine"),
        (["--spread", "0.5"], "--spread"),
        (["--fault", "nonsense:0.1"], "--fault nonsense:0.1 is not a kind"),
        (["--fault", "503:2"], "--fault 503:2 is not a kind and a share between 0 and 1"),
        (["--fault", "reset:nan"], "--fault reset:nan is not"),
        (["--fault", "reset:x"], "--fault reset:x is not"),
        (["--endpoints", "9999999"], "--endpoints"),
    ],
)
def test_numbers_that_cannot_be_are_refused_with_a_sentence(tmp_path, capfd, options, words):
    assert main(["sim", "--hostfile", str(tmp_path / "h"), "--duration", "0.1", *options]) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert "Traceback" not in said


def test_a_hostfile_that_cannot_be_written_is_told_before_anything_listens(tmp_path, capfd):
    assert main(["sim", "--hostfile", str(tmp_path / "missing" / "h")]) == 2
    assert "cannot be written" in capfd.readouterr().err


def test_speeds_are_spread(tmp_path):
    from aurora_swarm.cli.sim import _plans
    from aurora_swarm.testing.fleet import ServerPlan

    speeds = sorted(plan.speed for plan in _plans(ServerPlan(), 100, 4.0, seed=1))
    assert speeds[0] == pytest.approx(0.25)
    assert speeds[-1] == pytest.approx(1.0)
    assert len(set(speeds)) == 100
