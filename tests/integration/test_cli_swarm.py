"""``aurora-swarm swarm`` against a model server on loopback: plan, progress, answer, what failed, and the exit code."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.cli import main
from aurora_swarm.swarms.control_client import ControlClient
from aurora_swarm.swarms.control_wire import Request as ControlRequest
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import Answer, FaultyServer, Request, error_status


def task(title: str, *after: int) -> dict[str, Any]:
    return {"title": title, "instructions": f"Do {title}.", "after": list(after)}


PLAN = {"tasks": [task("gather"), task("weigh", 1), task("write", 1, 2)]}


def team(*fails: str, slow: str = "", further: str = "") -> Any:
    """A model that plans three tasks; those named are refused, and one may take for ever."""

    def script(request: Request) -> Answer:
        if request.method == "GET":
            return Answer()
        messages = request.json()["messages"]
        prompt = "\n".join(message["content"] for message in messages)
        if prompt.startswith("You plan"):
            text = json.dumps(PLAN)
        elif prompt.startswith("You follow"):
            tasks = [{"title": further, "instructions": ""}] if further and "=== result ===\nwrite" in prompt else []
            text = json.dumps({"tasks": tasks})
        elif "=== answer 1 ===" in prompt:
            text = "ALL: " + " ".join(re.findall(r"<\w+>", prompt))
        else:
            found = re.search(r"Task: (\w+)", prompt)
            title = found[1] if found else ""
            if title in fails:
                return error_status(400, "no such thing")
            text = f"<{title}>"
            if title == slow:
                return Answer(delay_s=60.0)
        return Answer(answers.encode(answers.chat(text, prompt=prompt)))

    return script


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def command(server: FaultyServer, *options: str) -> list[str]:
    return ["swarm", "Win.", "--backend", server.url, *options]


def test_plan_progress_and_answer_are_printed(serve: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(command(serve(team(further="check"))))
    out, said = capfd.readouterr()
    assert (code, out) == (0, "ALL: <gather> <weigh> <write> <check>\n")
    lines = [re.sub(r"^\[[\d:]+\] ", "", line) for line in said.splitlines()]
    place = lines.index("plan: 3 tasks")
    assert lines[place + 1 : place + 4] == ["  1. gather", "  2. weigh (after 1)", "  3. write (after 1, 2)"]
    for line in ("done 1. gather: <gather>", "new 4. check (after 3)", "making one answer of 4"):
        assert line in lines[place:]
    assert re.fullmatch(r"finished: 4 of 4 tasks done in [\d.]+ s, [\d,]+ tokens", lines[-1])


def test_what_failed_is_named_and_the_exit_code_says_so(serve: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(command(serve(team("weigh")), "--no-auto", "--quiet"))
    out, said = capfd.readouterr()
    assert (code, out) == (1, "ALL: <gather>\n")
    assert re.search(r"^failed 2\. weigh: request_rejected: .*no such thing", said, re.MULTILINE)
    assert re.search(r"^cancelled 3\. write: task_cancelled: ", said, re.MULTILINE)


def test_without_any_answer_it_says_why_and_exits_with_3(serve: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(command(serve(team("gather"))))
    out, said = capfd.readouterr()
    assert (code, out) == (3, "")
    assert "error: none of 3 tasks has an answer" in said


def test_json_has_the_answer_the_tasks_and_what_they_cost(serve: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(command(serve(team("write")), "--json", "--quiet"))
    told = json.loads(capfd.readouterr().out)
    assert code == 1
    assert (told["ok"], told["answer"], told["interrupted"]) == (True, "ALL: <gather> <weigh>", False)
    assert [(each["title"], each["state"]) for each in told["tasks"]] == [
        ("gather", "done"),
        ("weigh", "done"),
        ("write", "failed"),
    ]
    assert told["tasks"][1]["after"] == [told["tasks"][0]["id"]]
    assert told["tasks"][2]["error"]["kind"] == "request_rejected"
    assert told["notes"] == ["not in the answer: 'write' (request_rejected)"]
    assert told["usage"]["completion_tokens"] > 0


def test_an_objective_comes_from_a_file_too(serve: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "objective.txt").write_text("Win {this}.", encoding="utf-8")
    server = serve(team())
    options = ["swarm", "--objective-file", "objective.txt", "--backend", server.url, "--max-tasks", "1", "--json"]
    assert main(options) == 0
    assert json.loads(capfd.readouterr().out)["objective"] == "Win {this}."


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["swarm", "--backend", "vllm://localhost:1"], "there is no objective"),
        (["swarm", "Win.", "--objective-file", "x.txt", "--backend", "vllm://localhost:1"], "given twice"),
        (["swarm", "--objective-file", "x.txt", "--backend", "vllm://localhost:1"], "x.txt cannot be read"),
        (["swarm", "Win."], "there is no backend"),
        (["swarm", "Win.", "--backend", "http://127.0.0.1:9", "--quiet"], "error: "),
    ],
)
def test_what_is_wrong_is_said_before_anything_begins(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AURORA_SWARM_HOSTFILE", raising=False)
    assert main(options) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert said in err


def test_a_token_budget_is_kept(serve: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(command(serve(team()), "--budget-tokens", "500")) == 3
    assert "500 tokens" in capfd.readouterr().err


class Run:
    """The command in a process of its own, whose second task never ends."""

    def __init__(self, folder: Path, server: FaultyServer, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aurora_swarm", *command(server, *options)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "done 1. gather" in line:
                return
        raise AssertionError(f"it never got that far: {self.process.wait()}")

    def end(self, number: int) -> tuple[int, str, str, float]:
        began = time.monotonic()
        self.process.send_signal(number)
        out, said = self.process.communicate(timeout=20)
        return self.process.returncode, out, said, time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_two_seconds_and_prints_what_is_done(serve: Any, tmp_path: Path, number: int) -> None:
    run = Run(tmp_path, serve(team(slow="weigh")))
    code, out, said, took_s = run.end(number)
    assert (code, out) == (130, "# gather\n<gather>\n\n")
    assert took_s < 2.0
    assert "interrupted: 1 of 3 tasks done" in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("*.sock"))


def test_it_is_steered_through_the_socket_that_it_was_given(serve: Any, tmp_path: Path) -> None:
    place = tmp_path / "control.sock"
    run = Run(tmp_path, serve(team(slow="weigh")), "--control", str(place))
    with ControlClient(place) as controls:
        status = controls.ask(ControlRequest(op="status")).status
        assert status is not None
        assert status.tasks == {"done": 1, "running": 1, "waiting": 1}
        controls.ask(ControlRequest(op="cancel", id=status.id))
    out, said = run.process.communicate(timeout=20)
    assert (run.process.returncode, out) == (1, "ALL: <gather>\n")
    assert "cancelled 2. weigh" in said
