from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.swarms.messages.http_server import Served, serve_messages
from aurora_swarm.swarms.messages.in_process import InProcessLog
from aurora_swarm.swarms.messages.messages import Messages
from aurora_swarm.swarms.messages.open import open_messages
from aurora_swarm.transports.http_ry import RyHttp

TOKEN = "a token that is long enough"


@pytest.fixture
async def messages() -> AsyncIterator[Messages]:
    async with open_messages(keep=10) as opened:
        yield opened


@pytest.fixture
async def served(messages: Messages) -> AsyncIterator[Served]:
    async with serve_messages(messages, token=TOKEN) as at:
        yield at


async def post(
    at: Served, what: str, body: bytes, *, method: str = "POST", **headers: str
) -> tuple[int, dict[str, object]]:
    http = RyHttp()
    try:
        given = {"authorization": f"Bearer {TOKEN}", **headers}
        reply = await http.request(method, f"{at.url}/v1/{what}", body=body, headers=given, timeout_s=10)
        return reply.status, msgspec.json.decode(reply.body) if reply.body[:1] == b"{" else {}
    finally:
        await http.aclose()


END = b'{"channel": "topic:news"}'


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer another token, just as long"}, 401),
        ({"authorization": TOKEN}, 401),
        ({"origin": "http://127.0.0.1"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "rebound.example"}, 403),
        ({"host": "localhost:1"}, 200),
    ],
)
async def test_who_is_let_in(served: Served, headers: dict[str, str], status: int) -> None:
    assert (await post(served, "end", END, **headers))[0] == status


@pytest.mark.parametrize(
    ("what", "body", "status"),
    [
        ("end", b"", 400),
        ("end", b"[]", 400),
        ("end", b"\xff", 400),
        ("end", b'{"channel": "elsewhere"}', 400),
        ("end", b'{"channel": "topic:a/../b"}', 400),
        ("end", b'{"channel": "topic:news", "more": 1}', 400),
        ("read", b'{"after": {"topic:news": "x"}}', 400),
        ("read", b'{"after": {"topic:news": ""}, "limit": 100000}', 400),
        ("read", b'{"after": {"topic:news": ""}, "wait_s": 1e9}', 400),
        ("append", b'{"message": {"id": "1", "sender": "a"}}', 400),
        ("append", b'{"message": {"id": "1", "sender": "a", "topic": "../news"}}', 400),
        ("append", b'{"message": {"id": "1", "sender": "a", "topic": "news", "text": "%s"}}' % (b"x" * 300_000), 400),
        ("append", b"x" * 600_000, 413),
        ("recall", b'{"query": "x", "k": 1, "wanted": {}}', 400),
        ("explode", b"{}", 404),
    ],
)
async def test_bad_requests_are_answered(served: Served, what: str, body: bytes, status: int) -> None:
    found, answer = await post(served, what, body)
    assert found == status
    assert status == 404 or answer["error"]
    assert (await post(served, "end", END))[0] == 200


async def test_only_post_is_answered(served: Served) -> None:
    assert (await post(served, "end", b"", method="GET"))[0] == 405


async def test_a_full_mailbox_is_told_at_once(served: Served) -> None:
    async with open_messages(served.url, token=TOKEN) as client, asyncio.timeout(5):
        for _ in range(10):
            await client.send("b", sender="a")
        with pytest.raises(StorageError, match="mailbox of b holds 10"):
            await client.send("b", sender="a")


async def test_a_wrong_token_is_told_at_once(served: Served) -> None:
    async with open_messages(served.url, token="another token, as long") as client, asyncio.timeout(5):
        with pytest.raises(UsageError, match="token is wrong"):
            await client.publish("news", sender="a")


async def test_a_reader_that_goes_away_is_not_waited_for(served: Served, messages: Messages) -> None:
    assert isinstance(messages.log, InProcessLog)
    async with open_messages(served.url, token=TOKEN) as client:
        waiting = asyncio.create_task((await client.subscribe("news")).next())
        await asyncio.sleep(0.1)
        assert messages.log._bell._listeners
        waiting.cancel()
        await asyncio.wait({waiting})
        for _ in range(100):
            if not messages.log._bell._listeners:
                break
            await asyncio.sleep(0.01)
        assert not messages.log._bell._listeners


async def test_closing_the_server_does_not_wait_for_readers_who_go_on_with_the_next_one(messages: Messages) -> None:
    loop = asyncio.get_running_loop()
    async with serve_messages(messages, token=TOKEN) as first:
        client = await asyncio.create_task(_opened(first))
        subscription = await client.subscribe("news")
        waiting = asyncio.create_task(subscription.next(20))
        await asyncio.sleep(0.1)
        began = loop.time()
    assert loop.time() - began < 2
    port = int(first.url.rpartition(":")[2])
    async with serve_messages(messages, token=TOKEN, port=port):
        sent = await messages.publish("news", "again", sender="a")
        assert await waiting == sent
    await client.log.aclose()


async def _opened(at: Served) -> Messages:
    from aurora_swarm.swarms.messages.http_client import HttpLog

    return Messages(HttpLog(RyHttp(), at.url, at.token, patience_s=10.0))


async def test_a_token_that_can_be_guessed_is_refused(messages: Messages) -> None:
    with pytest.raises(UsageError, match="too short"):
        async with serve_messages(messages, token="guess"):
            pass


async def test_a_port_that_is_taken_is_told(messages: Messages, served: Served) -> None:
    with pytest.raises(UsageError, match="cannot be listened on"):
        async with serve_messages(messages, port=int(served.url.rpartition(":")[2])):
            pass


async def test_something_else_at_the_address_is_told(messages: Messages) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_messages(f"http://127.0.0.1:{port}", token=TOKEN) as client:
        with pytest.raises(UsageError, match="serves no messages"):
            await client.publish("news", sender="a")
    server.close()
    await server.wait_closed()
