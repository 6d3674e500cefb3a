from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from aurora_swarm.cli import app as application
from aurora_swarm.cli.ctl import ctl_app
from aurora_swarm.swarms.control_server import serve_controls
from aurora_swarm.testing.steered_run import SteeredRun

Ctl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ctl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Ctl:
    """Runs ``aurora-swarm ctl ...``; gives the exit code, standard output and standard error."""
    whole = typer.Typer(name="aurora-swarm", rich_markup_mode="rich")
    whole.callback()(application.root)
    whole.add_typer(ctl_app, name="ctl")
    monkeypatch.setattr(application, "app", whole)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def called(*arguments: str) -> tuple[int, str, str]:
        code = application.main(["ctl", *arguments])
        said = capfd.readouterr()
        return code, said.out, said.err

    return called


@contextmanager
def served(run: SteeredRun) -> Iterator[Path]:
    """A run that answers, on a loop and a thread of its own."""
    begun, end, paths = threading.Event(), threading.Event(), []

    async def serve() -> None:
        async with serve_controls(run) as path:
            paths.append(path)
            begun.set()
            await asyncio.to_thread(end.wait, 60)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert begun.wait(10)
        yield paths[0]
    finally:
        end.set()
        thread.join(10)


@pytest.fixture
def run() -> SteeredRun:
    return SteeredRun(2, id="run-a", name="survey")


@pytest.fixture
def under_way(ctl: Ctl, run: SteeredRun) -> Iterator[Path]:
    with served(run) as path:
        yield path


def test_list_shows_the_runs(ctl: Ctl, under_way: Path) -> None:
    code, out, err = ctl("list")
    assert code == 0
    assert out.splitlines()[1].split()[:3] == ["run-a", "survey", "working"]
    assert err == "1 run under way\n"
    (record,) = json.loads(ctl("list", "--json")[1])
    assert (record["id"], record["path"], record["status"]["tasks"]) == ("run-a", str(under_way), {"running": 2})


def test_list_without_runs_is_no_failure(ctl: Ctl) -> None:
    assert ctl("list") == (0, "", "0 runs under way\n")


def test_status_shows_counts(ctl: Ctl, under_way: Path) -> None:
    code, out, _ = ctl("status")
    assert code == 0
    assert "tasks    2 running\n" in out
    assert json.loads(ctl("status", "--json")[1])["phase"] == "working"


def test_items_are_filtered_and_bounded(ctl: Ctl, under_way: Path) -> None:
    code, out, err = ctl("items", "--kind", "task", "--limit", "1")
    assert (code, len(out.splitlines()), err) == (0, 2, "1 item shown, there may be more\n")
    assert out.splitlines()[1].startswith("task-1 ")
    shown = json.loads(ctl("items", "--state", "working", "--json")[1])
    assert [item["id"] for item in shown] == ["worker-1", "worker-0"]
    assert ctl("items", "--state", "failed") == (0, "", "0 items shown\n")


@pytest.mark.parametrize(
    ("arguments", "state", "words"),
    [
        (("pause", "task-0"), "paused", "paused task-0\n"),
        (("cancel", "task-0"), "cancelled", "cancelled task-0\n"),
        (("requeue", "task-0"), "ready", "requeued task-0\n"),
        (("resume", "task-0"), "running", "resumed task-0\n"),
    ],
)
def test_actions(
    ctl: Ctl, under_way: Path, run: SteeredRun, arguments: tuple[str, ...], state: str, words: str
) -> None:
    assert ctl(*arguments) == (0, "", words)
    assert run.item("task-0").state == state


def test_steer_says_the_text(ctl: Ctl, under_way: Path, run: SteeredRun) -> None:
    assert ctl("steer", "run-a", "Be {brief}.") == (0, "", "told run-a\n")
    assert run.said == [("run-a", "Be {brief}.")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("pause", "nobody"),
        ("pause",),
        ("steer", "task-0"),
        ("steer", "task-0", " "),
        ("status", "--run", "other"),
        ("--run", "other", "status"),
        ("status", "--run", "./missing.sock"),
        ("items", "--limit", "0"),
        ("items", "--kind", "soul"),
        ("explode",),
    ],
)
def test_wrong_usage_is_told_in_two_lines(ctl: Ctl, under_way: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = ctl(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.splitlines()[1].startswith("  try: ")


def test_the_run_is_named_before_or_after_the_command(ctl: Ctl, under_way: Path) -> None:
    with served(SteeredRun(1, id="run-b")):
        code, _, err = ctl("status")
        assert (code, err.splitlines()[0]) == (2, "error: 2 runs are under way")
        for arguments in (("--run", "run-b", "status"), ("status", "--run", "b"), ("status", "--run", str(under_way))):
            code, out, _ = ctl(*arguments)
            assert code == 0
            assert out.startswith("run      run-")


def test_a_run_that_does_not_answer_is_a_failure_of_its_own(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "aurora-swarm").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "aurora-swarm" / "mute.sock"))
        mute.listen()
        code, out, err = ctl("list")
    assert code == 1
    assert "does not answer" in out
    assert "did not answer within 2 s" in err


def test_help_teaches(ctl: Ctl) -> None:
    for arguments in ((), ("--help",)):
        code, out, _ = ctl(*arguments)
        assert code == 0
        for word in ("list", "status", "items", "pause", "resume", "cancel", "requeue", "steer", "Exit codes", "--run"):
            assert word in out


def test_text_of_a_run_cannot_steer_the_terminal(ctl: Ctl) -> None:
    with served(SteeredRun(1, id="run-c", name="a\x1b[2Jb\nc")):
        assert "\x1b" not in ctl("list")[1]
