"""The built-in HTTP client keeps the contract of its port, and what it promises beyond it."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from aurora_swarm.errors import AttemptTimeoutError, ConnectError, UsageError
from aurora_swarm.testing.faulty_server import HANG, OK, Answer, FaultyServer
from aurora_swarm.testing.http_contract import HttpContract, MakeHttp, always, get
from aurora_swarm.transports import http_plain
from aurora_swarm.transports.connecting import Turns
from aurora_swarm.transports.http_plain import PlainHttp
from aurora_swarm.transports.http_ry import RyHttp


class TestRyHttp(HttpContract):
    @pytest.fixture
    def make_http(self) -> MakeHttp:
        return RyHttp


class TestPlainHttp(HttpContract):
    @pytest.fixture
    def make_http(self) -> MakeHttp:
        return PlainHttp


CLIENTS = pytest.mark.parametrize("make_http", [RyHttp, PlainHttp])


def imported(client: MakeHttp) -> str:
    """Imports a client, for a process of its own."""
    return f"from {client.__module__} import {client.__qualname__} as Client"


async def test_an_answer_that_nobody_asked_for_spoils_no_other() -> None:
    twice = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst"
    async with FaultyServer(always(Answer(raw=twice + twice.replace(b"first", b"stale")))) as server:
        http = PlainHttp()
        for _ in range(3):
            assert (await get(http, server.url)).body == b"first"
        await http.aclose()
    assert server.connections == 3


@contextmanager
def nobody_accepts() -> Iterator[str]:
    """The address of a socket whose queue is full: no connection is refused there, and none comes about."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


async def test_a_connection_that_does_not_come_about_ends_in_time_and_cancels_nobody() -> None:
    task = asyncio.current_task()
    assert task is not None
    http = PlainHttp(connect_timeout_s=0.1)
    with nobody_accepts() as url:
        with pytest.raises(ConnectError, match="no connection in time"):
            await get(http, url, timeout_s=10)
        with pytest.raises(AttemptTimeoutError, match=r"within 0\.05 s"):
            await get(http, url, timeout_s=0.05)
    assert not task.cancelling()
    await http.aclose()


async def test_who_is_cancelled_while_a_connection_comes_about_is_cancelled() -> None:
    http = PlainHttp()
    with nobody_accepts() as url:
        waiting = asyncio.create_task(get(http, url, timeout_s=10))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await get(http, url, timeout_s=10)
    await http.aclose()


async def test_a_cancellation_counts_although_the_time_is_over_too() -> None:
    http = PlainHttp(connect_timeout_s=0.02)
    with nobody_accepts() as url:
        waiting = asyncio.create_task(get(http, url, timeout_s=10))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.021, waiting.cancel)
        time.sleep(0.05)  # noqa: ASYNC251 - both are due in one turn of the loop
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await http.aclose()


async def test_only_so_many_begin_in_one_turn_of_the_loop_and_in_order() -> None:
    turns, begun = Turns(2, asyncio.get_running_loop()), list[int]()

    async def begin(number: int) -> None:
        await turns.mine()
        begun.append(number)

    tasks = [asyncio.create_task(begin(number)) for number in range(7)]
    tasks[3].cancel()
    seen = []
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        seen.append(len(begun))
    assert begun == [0, 1, 2, 4, 5, 6]
    assert max(after - before for before, after in pairwise([0, *seen])) == 2
    await begin(7)
    assert begun[-1] == 7


async def test_a_connection_that_comes_free_while_others_begin_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_plain, "_PER_TURN", 1)
    async with FaultyServer(always(OK)) as server:
        http = PlainHttp()
        await asyncio.gather(*(get(http, server.url) for _ in range(300)))
        await http.aclose()
    assert 1 <= server.connections < 300


async def test_a_hundred_and_three_comes_before_the_answer() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with FaultyServer(always(Answer(raw=hints + answer))) as server:
        http = PlainHttp()
        reply = await get(http, server.url)
        await http.aclose()
    assert (reply.status, reply.body, "link" in reply.headers) == (200, b"ok", False)


async def test_idle_connections_are_closed_after_a_while_and_a_new_one_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aurora_swarm.transports.http_plain.IDLE_TIMEOUT_S", 0.05)
    async with FaultyServer(always(OK)) as server:
        http = PlainHttp()
        await get(http, server.url)
        await server.until(lambda: server.connections_open == 0)
        await get(http, server.url)
        await http.aclose()
    assert server.connections == 2


async def test_the_nearest_deadline_counts_whoever_asked_first() -> None:
    async with FaultyServer(always(HANG)) as server:
        http = PlainHttp()
        patient = asyncio.create_task(get(http, server.url, timeout_s=30))
        await server.until(lambda: server.requests)
        for _ in range(2):
            with pytest.raises(AttemptTimeoutError, match=r"within 0\.05 s"):
                await get(http, server.url, timeout_s=0.05)
        assert not patient.done()
        patient.cancel()
        await asyncio.wait({patient})
        await http.aclose()


def test_it_may_be_used_from_one_loop_after_another() -> None:
    http = PlainHttp()

    async def twice() -> list[int]:
        async with FaultyServer(always(OK)) as server:
            return [(await get(http, server.url)).status for _ in range(2)]

    assert [asyncio.run(twice()) for _ in range(2)] == [[404, 404]] * 2  # what a well server says to that path


@pytest.mark.parametrize("headers", [{"x": "a\r\nevil: 1"}, {"a b": "c"}, {"x": "a\0"}])
async def test_headers_that_are_none_are_refused_before_anything_is_sent(headers: dict[str, str]) -> None:
    async with FaultyServer(always(OK)) as server:
        http = PlainHttp()
        with pytest.raises(ConnectError, match="not a request that can be sent"):
            await http.request("GET", server.url, body=None, headers=headers, timeout_s=5)
        await http.aclose()
    assert server.connections == 0


@CLIENTS
async def test_requests_that_wait_for_their_connection_keep_their_own_headers(make_http: MakeHttp) -> None:
    """A key of one provider must never reach another."""
    async with FaultyServer(always(Answer(b"ok", delay_s=0.02))) as server:
        http = make_http(max_connections=3)
        keys = [{"authorization": f"Bearer {number}"} for number in range(12)]
        asked = (
            http.request("POST", server.url, body=key["authorization"].encode(), headers=key, timeout_s=5)
            for key in keys
        )
        await asyncio.gather(*asked)
        await http.aclose()
    assert len(server.requests) == 12
    assert all(request.headers["authorization"].encode() == request.body for request in server.requests)


async def test_headers_of_the_callers_replace_ours() -> None:
    async with FaultyServer(always(OK)) as server:
        http = PlainHttp()
        for headers in ({"User-Agent": "mine"}, {"host": "elsewhere.example"}):
            await http.request("GET", server.url, body=None, headers=headers, timeout_s=5)
        await http.aclose()
    first, second = server.requests
    assert (first.headers["user-agent"], second.headers["host"]) == ("mine", "elsewhere.example")


@CLIENTS
async def test_the_environments_proxy_is_ignored_in_a_fresh_process(make_http: MakeHttp) -> None:
    code = (
        f"import asyncio, sys; {imported(make_http)}\n"
        "print(asyncio.run(Client().request('GET', sys.argv[1], body=None, headers={}, timeout_s=5)).body)"
    )
    async with FaultyServer(always(OK)) as proxy, FaultyServer(always(Answer(b"direct"))) as server:
        env = {**os.environ, "HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "ALL_PROXY": proxy.url, "NO_PROXY": ""}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, server.url, env=env, stdout=subprocess.PIPE
        )
        output, _ = await child.communicate()
    assert output.strip() == b"b'direct'"
    assert proxy.connections == 0


async def test_the_http_library_is_not_loaded_until_a_transport_is_opened() -> None:
    code = (
        "import sys, aurora_swarm, aurora_swarm.transports.open as o; assert 'ry' not in sys.modules\n"
        "o.open_transport('openai'); assert 'ry' in sys.modules"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await child.wait() == 0


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch):
    """Sixty-four files for this process, as far as the limit is asked for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("client", [RyHttp, PlainHttp])
def test_connections_fit_into_the_files_that_the_process_may_open(
    client: type[RyHttp | PlainHttp], few_files: None
) -> None:
    assert client(max_connections=1024).max_connections == 24


@CLIENTS
async def test_idle_connections_stay_within_the_limit_over_many_hosts(make_http: MakeHttp) -> None:
    servers = [FaultyServer(always(OK)) for _ in range(40)]
    for server in servers:
        await server.start()
    http = make_http(max_connections=8)
    for server in servers * 3:
        await get(http, server.url)
    for _ in range(100):
        if sum(server.connections_open for server in servers) <= 8:
            break
        await asyncio.sleep(0.01)
    assert sum(server.connections_open for server in servers) <= 8
    await http.aclose()
    for server in servers:
        await server.stop()


@CLIENTS
async def test_too_many_open_files_for_the_whole_time_is_a_connect_error_that_says_what_to_do(
    make_http: MakeHttp,
) -> None:
    async with FaultyServer(always(OK)) as server:
        http, fresh = make_http(), make_http()  # the second one has no idle connection whose file it could use
        await get(http, server.url)
        gc.collect()  # what other tests left behind must not free a file in the middle of this one
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
        held = []
        try:
            while True:
                try:
                    held.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            with pytest.raises(ConnectError, match="too many open files") as caught:
                await fresh.request("GET", "http://127.0.0.1:9/", body=None, headers={}, timeout_s=0.3)
        finally:
            for number in held:
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "ulimit -n" in caught.value.remedy
        assert (await get(fresh, server.url)).status == 404  # it goes on when files are free again
        await http.aclose()
        await fresh.aclose()


@CLIENTS
@pytest.mark.parametrize("wrong", [{"connect_timeout_s": 0}, {"max_connections": 0}])
def test_limits_that_are_none_are_refused(make_http: MakeHttp, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        make_http(**wrong)


@CLIENTS
async def test_plain_http_needs_no_certificates_and_https_says_that_it_does(make_http: MakeHttp) -> None:
    code = (
        f"import asyncio, sys; {imported(make_http)}\n"
        "async def main():\n"
        "    http = Client()\n"
        "    get = lambda url: http.request('GET', url, body=None, headers={}, timeout_s=5)\n"
        "    print((await get(sys.argv[1])).body)\n"
        "    try: await get(sys.argv[1].replace('http', 'https'))\n"
        "    except Exception as error: print(error.kind, error.remedy)\n"
        "asyncio.run(main())"
    )
    env = {**os.environ, "SSL_CERT_FILE": "/nonexistent", "SSL_CERT_DIR": "/nonexistent"}
    async with FaultyServer(always(Answer(b"direct"))) as server:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, server.url, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        output, _ = await child.communicate()
    assert output.decode().splitlines()[0] == "b'direct'"
    assert "SSL_CERT_FILE" in output.decode()


@CLIENTS
async def test_a_server_that_speaks_no_tls_is_a_connect_error(make_http: MakeHttp) -> None:
    async with FaultyServer() as server:
        http = make_http(connect_timeout_s=0.3)
        with pytest.raises(ConnectError):
            await get(http, server.url.replace("http", "https"))
        await http.aclose()
