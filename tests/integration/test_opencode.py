"""Coding agents at a scripted server: the real OpenCode where it is installed, and what stands in for it, always."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.agents.coding import OpenCode
from aurora_swarm.errors import AgentError, AgentTimeoutError, UsageError
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import HANG, Answer, FaultyServer, Request, error_status
from aurora_swarm.values.reply import Usage

RECORDED = (sys.executable, str(Path(__file__).with_name("opencode_recorded.py")))
COMMANDS = {"recorded": RECORDED, **({"real": ("opencode",)} if shutil.which("opencode") else {})}
LIMIT_S = 60.0


@pytest.fixture(params=COMMANDS.values(), ids=COMMANDS)
def command(request: pytest.FixtureRequest) -> tuple[str, ...]:
    found: tuple[str, ...] = request.param
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project: two files, one of them ignored by git, and what git itself keeps."""
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (project / ".gitignore").write_text("*.log\n")
    (project / "greeting.txt").write_text("hi\n")
    return project


def streamed(delta: dict[str, Any], finish: str) -> Answer:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 110,
        "prompt_tokens_details": {"cached_tokens": 40},
    }
    base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "coder"}
    chunks = [
        {**base, "choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": None}]},
        {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage},
    ]
    body = answers.events([*map(answers.encode, chunks), b"[DONE]"])
    return Answer(body, headers={"content-type": "text/event-stream"})


def calls(name: str, **arguments: Any) -> Answer:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return streamed(
        {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}, "tool_calls"
    )


def model(request: Request) -> Answer:
    """Does what the task names: ``write FILE``, ``bash COMMAND``, ``refuse`` or ``hang``; then says that it is done."""
    messages = request.json()["messages"]
    if any(message["role"] == "tool" for message in messages):
        return streamed({"content": "All done."}, "stop")
    said = next(message["content"] for message in reversed(messages) if message["role"] == "user")
    task = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
    word, _, rest = task.strip().strip('"').partition(" ")
    match word:
        case "write":
            return calls("write", filePath=rest, content="hello from the agent\n")
        case "bash":
            return calls("bash", command=rest, description="as told")
        case "refuse":
            return error_status(400, "too long for the context")
        case "hang":
            return HANG
    return streamed({"content": "Nothing to do."}, "stop")


@asynccontextmanager
async def served() -> AsyncIterator[FaultyServer]:
    async with FaultyServer(model) as server:
        yield server


async def test_an_agent_edits_its_copy_and_hands_back_what_it_changed(command: tuple[str, ...], folder: Path) -> None:
    agents = OpenCode(command, folder=folder, max_tokens=777)
    async with served() as server:
        result = await agents.run(
            "write new.txt",
            endpoint_url=server.endpoint.url,
            model="coder",
            timeout_s=LIMIT_S,
            api_key="the-key",
            index=3,
        )
    assert (result.ok, result.error, result.index) == (True, None, 3)
    assert result.output is not None
    assert (result.output.text, result.turns, result.tool_calls) == ("All done.", 2, 1)
    assert result.usage == Usage(prompt_tokens=200, completion_tokens=20, cached_tokens=80)
    assert sorted(path.name for path in folder.iterdir()) == [".git", ".gitignore", "greeting.txt"]
    patched(folder, result.output.diff)
    assert (folder / "new.txt").read_text() == "hello from the agent\n"
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer the-key"}
    assert {request.json()["max_tokens"] for request in server.requests} == {777}
    assert {request.json()["model"] for request in server.requests} == {"coder"}


def patched(folder: Path, diff: str) -> None:
    """The patch applies to the original, as a user would apply it."""
    command = ["git", "apply", "--unsafe-paths", f"--directory={folder}", "-"]
    subprocess.run(command, input=diff.encode(), check=True, cwd="/")


async def test_an_agent_that_changes_nothing_has_an_empty_diff() -> None:
    async with served() as server:
        result = await OpenCode(RECORDED).run(
            "rest", endpoint_url=server.endpoint.url, model="coder", timeout_s=LIMIT_S
        )
    assert result.output is not None
    assert (result.output.text, result.output.diff) == ("Nothing to do.", "")


async def test_agents_at_the_same_time_have_a_copy_each(folder: Path, tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    keep.mkdir()
    agents = OpenCode(RECORDED, folder=folder, keep=keep)
    async with served() as server:
        url = server.endpoint.url
        names = [f"{number}.txt" for number in range(8)]
        results = await asyncio.gather(*(agents.run(f"write {n}", endpoint_url=url, model="coder") for n in names))
    for name, result in zip(names, results, strict=True):
        assert result.output is not None
        assert result.output.diff.count("diff --git") == 1
        assert f"+++ b/{name}" in result.output.diff
    kept = [path.name for path in keep.rglob("*.txt") if path.parent.name == "work"]
    assert sorted(set(kept) - {"greeting.txt"}) == names


async def test_an_ignored_file_is_part_of_what_changed(folder: Path) -> None:
    async with served() as server:
        agents = OpenCode(RECORDED, folder=folder)
        result = await agents.run("write run.log", endpoint_url=server.endpoint.url, model="coder")
    assert result.output is not None
    assert "+++ b/run.log" in result.output.diff


async def test_commands_are_run_only_where_they_are_allowed(command: tuple[str, ...], folder: Path) -> None:
    async with served() as server:
        for allowed in (False, True):
            agents = OpenCode(command, folder=folder, allow_commands=allowed)
            result = await agents.run(
                "bash echo ran > ran.txt", endpoint_url=server.endpoint.url, model="coder", timeout_s=LIMIT_S
            )
            assert result.output is not None
            assert ("+++ b/ran.txt" in result.output.diff) is allowed


async def test_what_the_server_refuses_is_the_agents_error(command: tuple[str, ...], folder: Path) -> None:
    async with served() as server:
        agents = OpenCode(command, folder=folder)
        result = await agents.run("refuse", endpoint_url=server.endpoint.url, model="coder", timeout_s=LIMIT_S)
    assert (result.ok, result.output) == (False, None)
    assert type(result.error) is AgentError
    assert "too long for the context (HTTP 400)" in str(result.error)


async def test_an_agent_that_takes_too_long_is_ended(command: tuple[str, ...], folder: Path) -> None:
    async with served() as server:
        limit = 1.0 if command == RECORDED else 6.0
        agents = OpenCode(command, folder=folder)
        result = await agents.run("hang", endpoint_url=server.endpoint.url, model="coder", timeout_s=limit)
        assert isinstance(result.error, AgentTimeoutError)
        await until(lambda: server.connections_open == 0)


async def test_cancelling_ends_the_process_and_all_that_it_started(folder: Path, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    task = f"bash echo $$ > {told}; exec sleep 60"
    async with served() as server:
        agents = OpenCode(RECORDED, folder=folder, allow_commands=True)
        running = asyncio.create_task(agents.run(task, endpoint_url=server.endpoint.url, model="coder"))
        await until(lambda: told.exists() and told.read_text().strip() != "")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    pid = int(told.read_text())
    await until(lambda: not is_running(pid))


async def test_none_of_our_environment_reaches_an_agent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURORA_SWARM_API_KEY", "canary-of-ours")
    async with served() as server:
        agents = OpenCode(RECORDED, folder=folder, allow_commands=True, env={"GIVEN": "yes"})
        result = await agents.run("bash env > env.txt", endpoint_url=server.endpoint.url, model="coder")
    assert result.output is not None
    assert "+GIVEN=yes" in result.output.diff
    assert "canary" not in result.output.diff
    assert f"+HOME={Path.home()}\n" not in result.output.diff


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('no licence')", "no licence"),
        ("print('{}')", "without a turn"),
        ('print(\'[1]\\nnot json\\n"x"\\n{"type": "error", "error": 7}\')', "does not say what"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "exit code -9"),
    ],
)
async def test_a_program_that_does_not_work_is_the_agents_error(program: str, said: str) -> None:
    result = await OpenCode((sys.executable, "-c", program)).run("x", endpoint_url="http://127.0.0.1:9", model="m")
    assert type(result.error) is AgentError
    assert said in str(result.error)


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        (lambda folder: OpenCode("no-such-program"), "no program no-such-program"),
        (lambda folder: OpenCode(RECORDED, folder=folder / "missing"), "is no folder"),
        (lambda folder: OpenCode(RECORDED, keep=folder / "missing"), "is no folder"),
        (lambda folder: OpenCode(()), "command is empty"),
        (lambda folder: OpenCode(RECORDED, context=0), "context is 0"),
    ],
)
async def test_what_is_missing_is_said_before_any_agent_runs(
    agents: Callable[[Path], OpenCode], said: str, folder: Path
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        agents(folder).check()
    assert caught.value.remedy


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what another process does
            await asyncio.sleep(0.01)
