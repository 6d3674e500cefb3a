"""Tools of a real MCP server: over a program's input and output, and by streamable HTTP on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.errors import ToolDefinitionError, ToolFailedError, UsageError
from aurora_swarm.tools.definition import AnyTool, Tool
from aurora_swarm.tools.mcp import McpServer, open_mcp, opened_tools
from aurora_swarm.tools.pool import ToolAnswer, ToolPool
from aurora_swarm.values.message import ToolCall

EXAMPLE = Path(__file__).parents[2] / "integration" / "mcp_server_example.py"
PROGRAM = (sys.executable, str(EXAMPLE))


class Agent:
    """Calls tools of one server as an agent does."""

    def __init__(self, tools: list[AnyTool], pool: ToolPool) -> None:
        self.tools = {tool.name: tool for tool in tools}
        self.pool = pool

    async def __call__(self, name: str, **arguments: Any) -> ToolAnswer:
        return await self.pool.call(ToolCall("1", name, arguments), self.tools)


@asynccontextmanager
async def agent_of(server: McpServer) -> AsyncIterator[Agent]:
    async with open_mcp(server) as tools:
        pool = ToolPool()
        try:
            yield Agent(tools, pool)
        finally:
            await pool.aclose()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def served(port: int, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The example by HTTP, listening."""
    command = [*PROGRAM, "--port", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None
                    process_wait(process)
            yield process
        finally:
            process.kill()


def process_wait(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.05)


@pytest.fixture(scope="module")
def by_events() -> Iterator[McpServer]:
    port = free_port()
    with served(port):
        yield McpServer(url=f"http://127.0.0.1:{port}/mcp")


@pytest.fixture(scope="module")
def by_json() -> Iterator[McpServer]:
    port = free_port()
    with served(port, "--json"):
        yield McpServer(url=f"http://127.0.0.1:{port}/mcp", max_bytes=100_000)


@pytest.fixture(params=["program", "events", "json"])
def server(request: pytest.FixtureRequest) -> McpServer:
    if request.param == "program":
        return McpServer(command=PROGRAM)
    found: McpServer = request.getfixturevalue(f"by_{request.param}")
    return found


async def test_the_tools_are_listed_and_called_over_each_transport(server: McpServer) -> None:
    async with agent_of(server) as agent:
        add = agent.tools["add"]
        assert (add.description, add.parameters["required"]) == ("Add two numbers.", ["a", "b"])
        assert add.parameters["additionalProperties"] is False
        assert (await agent("add", a=2, b=3)).text == "5"
        assert (await agent("picture")).text == "[image/png, not shown]\na dot"

        failed = await agent("fail", why="it is Monday")
        assert (failed.ok, failed.executed) == (False, True)
        assert "it is Monday" in failed.text

        answers = await asyncio.gather(*(agent("add", a=number, b=1) for number in range(200)))
        assert [answer.text for answer in answers] == [str(number + 1) for number in range(200)]


async def test_what_takes_too_long_fails_and_the_server_is_told(by_events: McpServer, tmp_path: Path) -> None:
    told = tmp_path / "told"
    patient = McpServer(url=by_events.url, timeout_s=0.5)
    async with agent_of(patient) as agent:
        answer = await agent("hang", told=str(told))
        assert answer.text.startswith("hang took longer than 0.5 s")
        await until(lambda: told.read_text() == "cancelled")
        assert (await agent("add", a=1, b=1)).text == "2"


async def test_cancelling_a_call_cancels_it_on_the_server(tmp_path: Path) -> None:
    told = tmp_path / "told"
    async with agent_of(McpServer(command=PROGRAM)) as agent:
        call = asyncio.create_task(agent("hang", told=str(told)))
        await until(told.exists)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: told.read_text() == "cancelled")
        assert (await agent("add", a=1, b=1)).text == "2"


async def test_arguments_that_the_servers_schema_refuses_are_not_sent(by_events: McpServer) -> None:
    async with agent_of(by_events) as agent:
        before = await agent("count")
        refused = [await agent("add", a=1, b=1001), await agent("add", a="1", b=1), await agent("add", a=1)]
        assert all(answer.text.startswith("refused: ") and not answer.executed for answer in refused)
        assert "1001 is greater than the maximum of 1000" in refused[0].text
        assert (await agent("count")).text == before.text


async def test_a_killed_server_is_started_again_and_what_may_be_repeated_is_repeated_once(tmp_path: Path) -> None:
    async with agent_of(McpServer(command=PROGRAM)) as agent:
        first = await agent("pid")
        assert (await agent("die_once", mark=str(tmp_path / "one"))).text == "alive"
        assert (await agent("pid")).text != first.text

        lost = await agent("die_for", mark=str(tmp_path / "two"))
        assert not lost.ok
        assert "whether it was done is not known" in lost.text
        assert (await agent("die_for", mark=str(tmp_path / "two"))).text == "alive"

        os.kill(int((await agent("pid")).text), signal.SIGKILL)
        answers = await asyncio.gather(*(agent("add", a=number, b=1) for number in range(50)))
        assert all(answer.ok for answer in answers)


async def test_a_server_at_an_address_that_dies_is_connected_to_again_when_it_is_back() -> None:
    port = free_port()
    with served(port):
        opened = agent_of(McpServer(url=f"http://127.0.0.1:{port}/mcp"))
        agent = await opened.__aenter__()
    try:
        gone = await agent("add", a=1, b=1)
        assert not gone.ok
        assert "server" in gone.text
        with served(port):
            assert (await agent("add", a=1, b=1)).text == "2"
    finally:
        await opened.__aexit__(None, None, None)


async def test_a_message_that_is_too_long_fails_its_call_only(by_json: McpServer) -> None:
    async with agent_of(by_json) as agent:
        answers = await asyncio.gather(agent("big", size=1_000_000), agent("big", size=100))
        assert [answer.ok for answer in answers] == [False, True]


async def test_a_program_that_says_too_much_is_ended_and_started_again() -> None:
    async with agent_of(McpServer(command=PROGRAM, max_bytes=100_000)) as agent:
        answer = await agent("big", size=1_000_000)
        assert "more than 100000 bytes" in answer.text
        assert (await agent("big", size=100)).text == "x" * 100


async def test_a_program_gets_no_environment_but_what_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AURORA_SWARM_API_KEY", "canary-of-ours")
    async with agent_of(McpServer(command=PROGRAM, env={"TOKEN": "given"})) as agent:
        found = (await agent("environment")).text
        assert "TOKEN=given" in found
        assert "canary-of-ours" not in found


async def test_nothing_of_a_program_is_left_when_the_block_ends() -> None:
    async with agent_of(McpServer(command=PROGRAM)) as agent:
        process = int((await agent("pid")).text)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2])
async def test_cancelling_while_a_program_starts_leaves_nothing_of_it(after_s: float, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    program = f"import os, time; open({str(told)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    async def start() -> None:
        async with open_mcp(McpServer(command=(sys.executable, "-c", program))):
            pass

    starting = asyncio.create_task(start())
    await asyncio.sleep(after_s)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert len(asyncio.all_tasks()) == 1
    if told.exists() and (pid := told.read_text()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


async def test_a_program_that_does_not_end_by_itself_is_killed(tmp_path: Path) -> None:
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('I stay', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n"
    )
    server = McpServer(command=(sys.executable, str(stubborn)), start_timeout_s=1.0)
    with pytest.raises(UsageError, match=r"did not answer within 1 s \(it said: I stay\)"):
        async with open_mcp(server):
            pass


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (McpServer(command=("/no/such/program",)), "No such file"),
        (McpServer(command=(sys.executable, "-c", "import sys; sys.exit('no licence')")), "no licence"),
        (McpServer(command=(sys.executable, "-c", "print('hello')")), "ended the connection"),
    ],
)
async def test_a_program_that_is_no_server_is_one_clear_error(server: McpServer, said: str) -> None:
    with pytest.raises(UsageError, match="does not work") as caught:
        async with open_mcp(server):
            pass
    assert said in str(caught.value)
    assert caught.value.remedy


async def test_an_address_where_nobody_listens_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:\d+/mcp does not work"):
        async with open_mcp(f"http://127.0.0.1:{free_port()}/mcp"):
            pass


async def test_only_what_is_allowed_is_offered_under_names_that_stay_apart(by_events: McpServer) -> None:
    server = McpServer(url=by_events.url, allow=("add", "die_for"), prefix="calc_", effects={"add": "effect"})
    async with opened_tools([Tool.read_file, server]) as tools:
        assert [(tool.name, tool.effect) for tool in tools] == [
            ("read_file", "pure"),
            ("calc_add", "effect"),
            ("calc_die_for", "effect"),
        ]


async def test_asking_for_a_tool_that_is_not_there_is_refused(by_events: McpServer) -> None:
    with pytest.raises(ToolDefinitionError, match="has no tool 'sub'") as caught:
        async with open_mcp(McpServer(url=by_events.url, allow=("sub",))):
            pass
    assert "add" in caught.value.remedy


async def test_reading_tools_are_shared_between_agents_only_where_nothing_writes(by_events: McpServer) -> None:
    async with agent_of(McpServer(url=by_events.url, allow=("add", "count"))) as agent:
        assert agent.tools["add"].effect == "pure"
        before = int((await agent("count")).text)
        await asyncio.gather(*(agent("add", a=7, b=7) for _ in range(20)))
        assert agent.pool.statistics()["add"].executed == 1
        assert before == int((await agent("count")).text)  # remembered, as the class says
    async with open_mcp(McpServer(url=by_events.url, allow=("add", "die_for"))) as tools:
        assert [tool.effect for tool in tools] == ["idempotent", "effect"]


async def test_a_tool_can_be_limited_to_granted_values(by_events: McpServer) -> None:
    async with open_mcp(by_events) as tools:
        fail = next(tool for tool in tools if tool.name == "fail").limit(why=["this", "that"])
        assert fail.parameters["properties"]["why"] == {"enum": ["this", "that"]}
        agent = Agent([fail], ToolPool())
        assert (await agent("fail", why="other")).text == "refused: why must be one of: this, that"
        with pytest.raises(ToolFailedError, match="this"):
            await fail(why="this")


def test_a_missing_package_is_one_clear_error(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys; sys.modules['mcp'] = None\n"
        "from aurora_swarm.tools.mcp import open_mcp\n"
        "async def main():\n"
        "    async with open_mcp('http://127.0.0.1:9/mcp'): pass\n"
        "try: asyncio.run(main())\n"
        "except Exception as error: print(type(error).__name__, error, error.remedy)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "UsageError MCP servers need the package mcp pip install 'aurora-swarm[mcp]'"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.01)
