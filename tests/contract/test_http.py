"""The built-in HTTP client keeps the contract of its port, and what it promises beyond it."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from aurora_swarm.errors import ConnectError, UsageError
from aurora_swarm.testing.faulty_server import OK, Answer, FaultyServer
from aurora_swarm.testing.http_contract import HttpContract, MakeHttp, always, get
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


async def test_the_environments_proxy_is_ignored_in_a_fresh_process() -> None:
    code = (
        "import asyncio, sys; from aurora_swarm.transports.http_ry import RyHttp\n"
        "print(asyncio.run(RyHttp().request('GET', sys.argv[1], body=None, headers={}, timeout_s=5)).body)"
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


def test_connections_fit_into_the_files_that_the_process_may_open(few_files: None) -> None:
    assert RyHttp(max_connections=1024).max_connections == 24


async def test_idle_connections_stay_within_the_limit_over_many_hosts() -> None:
    servers = [FaultyServer(always(OK)) for _ in range(40)]
    for server in servers:
        await server.start()
    http = RyHttp(max_connections=8)
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


async def test_too_many_open_files_for_the_whole_time_is_a_connect_error_that_says_what_to_do() -> None:
    async with FaultyServer(always(OK)) as server:
        http, fresh = RyHttp(), RyHttp()  # the second one has no idle connection whose file it could use
        await get(http, server.url)
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


@pytest.mark.parametrize("wrong", [{"connect_timeout_s": 0}, {"max_connections": 0}])
def test_limits_that_are_none_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        RyHttp(**wrong)


async def test_plain_http_needs_no_certificates_and_https_says_that_it_does() -> None:
    code = (
        "import asyncio, sys; from aurora_swarm.transports.http_ry import RyHttp\n"
        "async def main():\n"
        "    http = RyHttp()\n"
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


async def test_a_server_that_speaks_no_tls_is_a_connect_error() -> None:
    async with FaultyServer() as server:
        http = RyHttp(connect_timeout_s=0.3)
        with pytest.raises(ConnectError):
            await get(http, server.url.replace("http", "https"))
        await http.aclose()
