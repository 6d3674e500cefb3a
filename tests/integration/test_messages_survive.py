"""Messages when what carries them dies, and between processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_swarm.errors import StorageError
from aurora_swarm.swarms.messages.http_server import serve_messages
from aurora_swarm.swarms.messages.message import Message
from aurora_swarm.swarms.messages.open import open_messages
from aurora_swarm.testing.redis_server import RedisServer


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


async def test_redis_is_killed_twice_and_nothing_that_was_sent_is_lost_or_out_of_order(
    redis_server: RedisServer,
) -> None:
    sent: list[Message] = []
    at_work = asyncio.Event()

    async def speak() -> None:
        async with open_messages(redis_server.url) as messages:
            for n in range(300):
                sent.append(await messages.publish("news", str(n), sender="a"))
                at_work.set()
                await asyncio.sleep(0.002)

    async def disturb() -> None:
        for _ in range(2):
            at_work.clear()
            await at_work.wait()
            await asyncio.sleep(0.05)
            await asyncio.to_thread(redis_server.kill)
            await asyncio.sleep(0.2)
            await asyncio.to_thread(redis_server.start)

    async with open_messages(redis_server.url) as messages, asyncio.timeout(60):
        subscription = await messages.subscribe("news")
        speaking = asyncio.create_task(asyncio.wait_for(asyncio.gather(speak(), disturb()), 50))
        heard = [await anext(subscription) for _ in range(300)]
        await speaking
    assert heard == sent
    assert subscription.missed == 0


async def test_a_mailbox_outlives_its_redis_and_its_reader(redis_server: RedisServer) -> None:
    async with open_messages(redis_server.url) as messages:
        for n in range(4):
            await messages.send("b", str(n), sender="a")
        inbox = messages.inbox("b")
        first = await inbox.receive(5)
        assert first is not None
        await inbox.acknowledge(first)
        redis_server.kill()
        redis_server.start()
    async with open_messages(redis_server.url) as messages:
        inbox = messages.inbox("b")
        assert [message and message.text for message in [await inbox.receive(5) for _ in range(3)]] == ["1", "2", "3"]


async def test_a_redis_that_stays_away_is_told(redis_server: RedisServer) -> None:
    async with open_messages(redis_server.url, patience_s=0.3) as messages:
        subscription = await messages.subscribe("news")
        waiting = asyncio.create_task(subscription.next(30))
        await asyncio.sleep(0.05)
        redis_server.kill()
        with pytest.raises(StorageError, match="could not be reached"):
            await messages.publish("news", sender="a")
        with pytest.raises(StorageError, match="could not be reached"):
            await waiting
        redis_server.start()
        sent = await messages.publish("news", "again", sender="a")
        assert await subscription.next(10) == sent


async def test_a_store_in_a_file_keeps_messages_for_the_next_process(tmp_path: Path) -> None:
    place = f"store+local://{tmp_path / 'store'}"
    async with open_messages(place) as messages:
        cursor = (await messages.subscribe("news")).cursor
        for n in range(3):
            await messages.publish("news", f"finding {n}", sender="a")
            await messages.send("b", str(n), sender="a")
        inbox = messages.inbox("b")
        first = await inbox.receive(5)
        assert first is not None
        await inbox.acknowledge(first)
    async with open_messages(place) as messages:
        await messages.publish("news", "finding 3", sender="a")
        subscription = await messages.subscribe("news", after=cursor)
        heard = [message and message.text for message in [await subscription.next(0.0) for _ in range(5)]]
        assert heard == ["finding 0", "finding 1", "finding 2", "finding 3", None]
        inbox = messages.inbox("b")
        assert [message and message.text for message in [await inbox.receive(0.0) for _ in range(3)]] == [
            "1",
            "2",
            None,
        ]
        assert (await messages.recall("finding 2", 1))[0].text == "finding 2"


ANSWERER = """
import asyncio, sys
from aurora_swarm.swarms.messages.open import open_messages

async def main():
    async with open_messages(sys.argv[1], token=sys.argv[2]) as messages:
        print("up", flush=True)
        async for message in messages.inbox("answerer"):
            await messages.reply(message, message.text.upper(), sender="answerer")
            if message.text == "bye":
                return

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["http", "redis"])
async def test_two_processes_talk(kind: str, redis_server: RedisServer) -> None:
    place = "memory://" if kind == "http" else redis_server.url
    async with open_messages(place) as messages, serve_messages(messages) as served, asyncio.timeout(30):
        url = served.url if kind == "http" else place
        command = [sys.executable, "-c", ANSWERER, url, served.token]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        inbox = messages.inbox("asker")
        for text in ("hello", "bye"):
            asked = await messages.send("answerer", text, sender="asker")
            answer = await inbox.receive(10)
            assert answer is not None
            assert (answer.text, answer.reply_to, answer.sender) == (text.upper(), asked.id, "answerer")
        assert await process.wait() == 0
