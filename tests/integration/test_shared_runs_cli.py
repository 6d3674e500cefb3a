"""The command line over several processes: run, map and worker, interrupted and continued."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.testing.redis_server import RedisServer

RUN = [sys.executable, "-m", "aurora_swarm"]
WORKER = [sys.executable, "-c", "import typer; from aurora_swarm.cli.worker import worker; typer.run(worker)"]


@pytest.fixture
def redis():
    with tempfile.TemporaryDirectory(prefix="r") as folder, RedisServer(Path(folder)) as server:
        yield server.url


@pytest.fixture
def fleet():
    with fleet_process([ServerPlan(latency_s=0.05, capacity=8)] * 2) as fleet:
        yield fleet


def spec_in(folder, fleet, count):
    backend = [f"vllm://{endpoint.host}:{endpoint.port}" for endpoint in fleet.endpoints]
    inputs = [{"n": n, "text": f"text {n}"} for n in range(count)]
    spec = {"task": "Say {text}", "inputs": inputs, "keep": ["n"], "backend": backend, "max_inflight": 8}
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    return path


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_results(path, count):
    results = lines_of(path)
    assert [result["index"] for result in results] == list(range(count))
    for n, result in enumerate(results):
        assert result["ok"]
        assert result["input"] == {"n": n}
        assert result["output"].endswith(f"text {n}")


def test_a_run_is_interrupted_and_the_same_command_continues_it(redis, fleet, tmp_path):
    output = tmp_path / "results.jsonl"
    spec = spec_in(tmp_path, fleet, 300)
    command = [*RUN, "run", str(spec), "-o", str(output), "--store", redis, "--processes", "1"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not output.exists() or output.read_text().count("\n") < 30:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = first.communicate()
    assert time.monotonic() - began < 3
    assert first.returncode == 130
    assert "the same command continues" in said
    done = {line["index"] for line in lines_of(output)}
    assert 30 <= len(done) < 300
    answered = fleet.counts().answered
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 0, second.stderr
    check_results(output, 300)
    assert done <= {line["index"] for line in lines_of(output) if line["resumed"]}
    assert fleet.counts().answered <= 300 + 2 * 8
    assert answered < 300


@pytest.mark.chaos
def test_workers_of_somebody_else_join_and_map_reads_what_they_do(redis, fleet, tmp_path):
    output, source = tmp_path / "results.jsonl", tmp_path / "texts.jsonl"
    source.write_text("".join(json.dumps({"n": n, "text": f"text {n}"}) + "\n" for n in range(100)))
    where = [part for e in fleet.endpoints for part in ("--backend", f"vllm://{e.host}:{e.port}")]
    workers = [
        subprocess.Popen([*WORKER, "--store", redis, "--run", "mine"], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    command = [*RUN, "map", "Say {text}", "-i", str(source), "--keep", "n", "-o", str(output), *where]
    shared = ["--store", redis, "--processes", "0", "--run-id", "mine"]
    done = subprocess.run([*command, *shared], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"aurora-swarm worker --store {redis} --run mine" in done.stderr
    check_results(output, 100)
    said = [worker.communicate(timeout=20)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert all("run mine is finished" in each for each in said)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--processes", "2"], "need --store"),
        (["--store", "ftp://x", "--run-id", "a"], "no kind of store"),
        (["--store", "sqlite://x.db", "--journal", "x.journal"], "a journal and --store"),
        (["--store", "sqlite://x.db", "--budget-tokens", "5"], "a budget cannot be kept"),
        (["--store", "sqlite://x.db", "--engine", "nonsense"], "is no engine"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(fleet, tmp_path, monkeypatch, more, problem, capsys):
    from aurora_swarm.cli.app import main

    monkeypatch.chdir(tmp_path)
    spec = spec_in(tmp_path, fleet, 3)
    assert main(["run", str(spec), "-o", "out.jsonl", *more]) == 2
    assert problem in capsys.readouterr().err
