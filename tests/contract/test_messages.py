from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from aurora_swarm.swarms.messages.http_server import serve_messages
from aurora_swarm.swarms.messages.messages import Messages
from aurora_swarm.swarms.messages.open import open_messages
from aurora_swarm.testing.messages_contract import MessagesContract, MessagesFactory
from aurora_swarm.testing.redis_server import RedisServer


class TestInProcess(MessagesContract):
    @pytest.fixture
    async def messages_factory(self) -> AsyncIterator[MessagesFactory]:
        async with AsyncExitStack() as stack:
            opened: list[Messages] = []

            async def factory(keep: int = 10_000) -> Messages:
                if not opened:
                    opened.append(await stack.enter_async_context(open_messages("memory://", keep=keep)))
                return opened[0]

            yield factory


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class TestRedis(MessagesContract):
    @pytest.fixture
    async def messages_factory(
        self, redis_server: RedisServer, request: pytest.FixtureRequest
    ) -> AsyncIterator[MessagesFactory]:
        async with AsyncExitStack() as stack:

            async def factory(keep: int = 10_000) -> Messages:
                opening = open_messages(redis_server.url, keep=keep, space=request.node.name)
                return await stack.enter_async_context(opening)

            yield factory


class TestHttp(MessagesContract):
    @pytest.fixture
    async def messages_factory(self) -> AsyncIterator[MessagesFactory]:
        async with AsyncExitStack() as stack:
            at: list[tuple[str, str]] = []

            async def factory(keep: int = 10_000) -> Messages:
                if not at:
                    kept = await stack.enter_async_context(open_messages("memory://", keep=keep))
                    served = await stack.enter_async_context(serve_messages(kept))
                    at.append((served.url, served.token))
                url, token = at[0]
                return await stack.enter_async_context(open_messages(url, token=token))

            yield factory


class TestStored(MessagesContract):
    recalls = True

    @pytest.fixture
    async def messages_factory(self, tmp_path: Path) -> AsyncIterator[MessagesFactory]:
        async with AsyncExitStack() as stack:
            opened: list[Messages] = []

            async def factory(keep: int = 10_000) -> Messages:
                if not opened:  # a store in a file belongs to one process
                    place = f"store+local://{tmp_path / 'store'}"
                    opened.append(await stack.enter_async_context(open_messages(place, keep=keep)))
                return opened[0]

            yield factory


@pytest.fixture(scope="module")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("chroma")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("chroma"), "run", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--path", folder], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat").raise_for_status()
                break
            except httpx.HTTPError:
                assert server.poll() is None, "no Chroma server came up"
                assert time.monotonic() < deadline, "no Chroma server came up"
                time.sleep(0.05)
        yield f"chroma://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.mark.chaos
class TestStoredOnAServer(MessagesContract):
    """Where other processes write too: each way is a writer of its own."""

    recalls = True

    @pytest.fixture
    async def messages_factory(self, chroma_url: str, request: pytest.FixtureRequest) -> AsyncIterator[MessagesFactory]:
        async with AsyncExitStack() as stack:
            space = f"s{abs(hash(request.node.name))}"

            async def factory(keep: int = 10_000) -> Messages:
                opening = open_messages(f"store+{chroma_url}", keep=keep, space=space)
                return await stack.enter_async_context(opening)

            yield factory
