"""The embedded model as users run it: llama.cpp in a child process, real weights."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.errors import ModelUnavailableError, UsageError
from aurora_swarm.local.open import configure, open_local
from aurora_swarm.local.server import LocalConfig, LocalServer, start_servers
from aurora_swarm.transports.http_ry import RyHttp
from aurora_swarm.values.endpoint import AgentEndpoint

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.local_model

SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "maxLength": 12}},
    "required": ["colour"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def config() -> LocalConfig:
    """The default model, fetched into the user's cache when it is not there yet."""
    return asyncio.run(configure(None, None, str, slots=2, context=512))


@pytest.fixture
async def server(config: LocalConfig) -> AsyncIterator[LocalServer]:
    async with LocalServer(config) as running:
        yield running


async def ask(endpoint: AgentEndpoint, path: str, body: dict[str, Any] | None = None) -> Any:
    http = RyHttp()
    try:
        sent = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        method = "GET" if body is None else "POST"
        reply = await http.request(method, endpoint.url + path, body=sent, headers=headers, timeout_s=60)
    finally:
        await http.aclose()
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noted by its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def is_gone_within(pid: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while is_running(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


async def test_it_answers_in_the_schema_under_its_short_name_and_reuses_the_prefix(server: LocalServer) -> None:
    listed = await ask(server.endpoint, "/v1/models")
    assert [model["id"] for model in listed["data"]] == ["smollm2-135m-instruct"]
    body = {
        "messages": [{"role": "user", "content": "The sky is blue and the grass is green. " * 4 + "The sky's colour?"}],
        "max_tokens": 24,
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    }
    first = await ask(server.endpoint, "/v1/chat/completions", body)
    second = await ask(server.endpoint, "/v1/chat/completions", body)
    assert list(json.loads(first["choices"][0]["message"]["content"])) == ["colour"]
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == second["timings"]["cache_n"] > first["usage"]["prompt_tokens"] / 2


async def test_a_web_page_may_not_read_it_and_its_slots_are_not_told(server: LocalServer) -> None:
    http = RyHttp()
    try:
        origin = {"origin": "http://elsewhere.example"}
        url = server.endpoint.url
        models = await http.request("GET", url + "/v1/models", body=None, headers=origin, timeout_s=10)
        slots = await http.request("GET", url + "/slots", body=None, headers=origin, timeout_s=10)
    finally:
        await http.aclose()
    assert models.headers.get("access-control-allow-origin", "") == ""
    assert slots.status == 501


async def test_a_killed_child_is_noticed_and_reported(server: LocalServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    error = await asyncio.wait_for(server.wait_dead(), 5)
    assert "was killed (SIGKILL)" in str(error)
    assert not server.alive


async def test_ctrl_c_in_the_terminal_does_not_end_the_child(server: LocalServer) -> None:
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid
    os.kill(server.pid, signal.SIGINT)
    assert await ask(server.endpoint, "/health")


async def test_leaving_ends_the_child_and_leaves_no_zombie_and_no_descriptor(config: LocalConfig) -> None:
    before = pipes()
    async with LocalServer(config) as running:
        pid = running.pid
        assert pid is not None
        await running.aclose()
        await running.aclose()
    await asyncio.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert pipes() == before


async def test_cancelling_the_end_still_ends_the_child(server: LocalServer) -> None:
    ending = asyncio.create_task(server.aclose())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert not server.alive
    assert children() == []


def pipes() -> set[str]:
    """The pipes and sockets that this process holds; a child is spoken to through them."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith(("pipe:", "socket:"))}


async def test_two_at_once_share_the_cores_and_the_local_url_says_when_its_server_dies(config: LocalConfig) -> None:
    said: list[str] = []
    died = asyncio.Event()

    def say(sentence: str) -> None:
        said.append(sentence)
        if "killed" in sentence:
            died.set()

    async with AsyncExitStack() as stack:
        (running,) = await start_servers([config], stack)
        (other,) = await stack.enter_async_context(open_local("local://?slots=1&context=256&threads=1", say=say))
        assert running.endpoint.port != other.port
        assert all([await ask(endpoint, "/health") for endpoint in (running.endpoint, other)])
        assert said == ["starting the embedded model smollm2-135m-instruct"]
        (pid,) = set(children()) - {running.pid}
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(died.wait(), 5)
        assert "SIGKILL" in said[1]


async def test_a_used_port_is_named_with_the_way_around(config: LocalConfig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = LocalConfig(config.model, config.name, port=port)
        with pytest.raises(ModelUnavailableError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            await LocalServer(wanted).__aenter__()
    assert "another port" in caught.value.remedy


async def test_a_used_port_is_found_before_the_model_is_looked_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ModelUnavailableError, match=f"port {port} on 127.0.0.1 is in use"):
            await LocalServer(LocalConfig(Path("nowhere.gguf"), "none", port=port)).__aenter__()


_FIRST_FREE = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@pytest.mark.platform
@pytest.mark.skipif(
    os.geteuid() != 0 or (_FIRST_FREE.exists() and int(_FIRST_FREE.read_text()) < 82),
    reason="needs a port that is not everybody's, and the right to become nobody",
)
def test_a_port_that_is_not_everybodys_is_named_with_the_systems_words() -> None:
    code = """
import asyncio, os
from pathlib import Path
from aurora_swarm.local.server import LocalConfig, LocalServer
os.seteuid(65534)
asyncio.run(LocalServer(LocalConfig(Path("nowhere.gguf"), "none", port=81)).__aenter__())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "port 81 on 127.0.0.1 cannot be used: Permission denied" in ended.stderr.splitlines()[-1]


async def test_truncated_weights_are_refused_with_the_engines_own_words(config: LocalConfig, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    with config.model.open("rb") as whole:
        cut.write_bytes(whole.read(8_000_000))
    with pytest.raises(ModelUnavailableError, match="corrupted or incomplete") as caught:
        await LocalServer(LocalConfig(cut, "cut")).__aenter__()
    assert str(cut) in str(caught.value)


async def test_a_model_that_loads_too_long_is_given_up(config: LocalConfig) -> None:
    server = LocalServer(LocalConfig(config.model, config.name, start_timeout_s=0.05))
    with pytest.raises(ModelUnavailableError, match=r"did not answer within 0\.05 s"):
        await server.__aenter__()
    assert not server.alive


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.2, 0.6])
async def test_cancelling_the_start_leaves_no_child(config: LocalConfig, after_s: float) -> None:
    server = LocalServer(config)
    starting = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(after_s)
    if starting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await starting
    else:  # a fast machine has started it by then
        await server.__aexit__(None, None, None)
    assert not server.alive
    assert children() == []


def children() -> list[int]:
    """Processes of ours that run the child's module."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid() and b"aurora_swarm.local.child" in command:
            found.append(int(folder.name))
    return found


PARENT = """
import asyncio, os, sys, time
from pathlib import Path
from aurora_swarm.local.server import LocalConfig, LocalServer

async def main():
    async with LocalServer(LocalConfig(Path(sys.argv[1]), "model", slots=1, context=256)) as server:
        if sys.argv[2] == "forked" and os.fork() == 0:
            time.sleep(10)  # holds the child's standard input open
            os._exit(0)
        print(server.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["alone", "forked"])
def test_the_child_dies_with_a_killed_parent(config: LocalConfig, kind: str) -> None:
    command = [sys.executable, "-c", PARENT, str(config.model), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert is_running(pid)
            parent.kill()
            parent.wait()
            assert is_gone_within(pid, 2.0)
        finally:
            os.killpg(parent.pid, signal.SIGKILL) if kind == "forked" else parent.kill()


def test_numbers_out_of_range_are_refused_before_anything_starts(config: LocalConfig) -> None:
    for wrong in ({"slots": 0}, {"context": 0}, {"port": 70_000}):
        with pytest.raises(UsageError):
            LocalServer(LocalConfig(config.model, config.name, **wrong))
