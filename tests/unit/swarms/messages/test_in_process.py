from __future__ import annotations

import asyncio

from aurora_swarm.swarms.messages.in_process import InProcessLog
from aurora_swarm.swarms.messages.message import Message
from aurora_swarm.swarms.messages.open import open_messages


async def test_memory_is_bounded_whatever_is_said_and_whoever_does_not_listen() -> None:
    log = InProcessLog(keep=100)
    for n in range(5_000):
        await log.append(Message(id=str(n), sender="a", topic="news", text="x" * 100))
    assert len(log._channels["topic:news"].bodies) == 100
    assert len(await log.read({"topic:news": ""}, limit=1_000)) == 100


async def test_subscribers_that_went_away_leave_nothing() -> None:
    async with open_messages() as messages:
        for _ in range(50):
            subscription = await messages.subscribe("news")
            await subscription.next(0.001)
        waiting = [asyncio.create_task(subscription.next()) for _ in range(50)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert isinstance(messages.log, InProcessLog)
        assert not messages.log._bell._listeners


async def test_a_thousand_agents_hear_each_other() -> None:
    async with open_messages() as messages:
        subscriptions = [await messages.subscribe("news") for _ in range(1_000)]
        listening = [asyncio.create_task(subscription.next(10)) for subscription in subscriptions]
        await asyncio.sleep(0)
        sent = await messages.publish("news", "to all", sender="a")
        assert await asyncio.gather(*listening) == [sent] * 1_000
