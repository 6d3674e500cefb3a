"""The stores keep the contract of their port: in memory, in a file, on a real Chroma server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from aurora_swarm.errors import StorageError, StoreError
from aurora_swarm.memory.open import open_store
from aurora_swarm.ports.store import Document
from aurora_swarm.testing.store_contract import OpenIt, StoreContract


class TestMemoryStore(StoreContract):
    durable = False

    @pytest.fixture
    def open_it(self) -> OpenIt:
        return lambda **options: open_store("memory://", **options)


class TestLocalStore(StoreContract):
    @pytest.fixture
    def open_it(self, tmp_path: Path) -> OpenIt:
        return lambda **options: open_store(f"local://{tmp_path}/store", **options)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.05)
    pytest.fail("no Chroma server came up")


@pytest.fixture(scope="module")
def chroma_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder, port = tmp_path_factory.mktemp("chroma"), free_port()
    command = [Path(sys.executable).with_name("chroma"), "run", "--host", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*command, "--port", str(port), "--path", folder], stdout=log, stderr=log)
    try:
        wait_for(port, server)
        yield port
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
async def chroma_url(chroma_port: int) -> str:
    """The server's, with nothing on it."""
    url = f"chroma://127.0.0.1:{chroma_port}"
    async with open_store(url) as store:
        for name in await store.collections():
            await store.drop(name)
    return url


class TestChromaStore(StoreContract):
    @pytest.fixture
    def open_it(self, chroma_url: str) -> OpenIt:
        return lambda **options: open_store(chroma_url, **options)

    async def test_what_chroma_cannot_keep_is_refused(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            notes = await store.collection("notes")
            for bad in (Document("a", "half \ud83d"), Document("a", "x", {"chroma:own": 1})):
                with pytest.raises(StoreError, match="Chroma"):
                    await notes.upsert([bad])
            with pytest.raises(StoreError, match="in one call"):
                await notes.upsert([Document(str(n), "", {}, (1.0, 0.0)) for n in range(6_000)])
            with pytest.raises(StoreError, match="name"):
                await store.collection("a..b")

    async def test_collections_of_other_programs_are_left_alone(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            client: Any = store._client
            await client.create_collection("theirs", embedding_function=None, metadata={"by": "others"})
            with pytest.raises(StoreError, match="another program"):
                await store.collection("theirs")
            assert await store.collections() == ["theirs"]
            assert (await client.get_collection("theirs", embedding_function=None)).metadata == {"by": "others"}

    async def test_two_clients_see_each_other(self, open_it: OpenIt) -> None:
        async with open_it() as one, open_it() as other:
            mine = await one.collection("notes")
            theirs = await other.collection("notes")
            await mine.upsert([Document("x", "a text")])
            assert (await theirs.query("a text", 1))[0].document.text == "a text"
            with pytest.raises(StoreError, match="256"):
                await theirs.upsert([Document("bad", "", {}, (1.0, 0.0))])
            await one.drop("notes")
            with pytest.raises(StoreError):
                await theirs.count()


async def test_no_chroma_server_is_one_clear_error() -> None:
    with pytest.raises(StorageError, match="no answer") as caught:
        await open_store(f"chroma://127.0.0.1:{free_port()}")
    assert "Chroma server" in caught.value.remedy
