"""What every `aurora_swarm.swarms.messages.log.Log` must do, as tests to inherit. Needs pytest and pytest-asyncio.

Inherit `MessagesContract`, give it one fixture, and let pytest find it::

    class TestMyMessages(MessagesContract):
        @pytest.fixture
        async def messages_factory(self):
            async with AsyncExitStack() as stack:
                async def factory(keep=10_000):  # another way to the same messages at every call of a test
                    return await stack.enter_async_context(open_messages("my://place", keep=keep))
                yield factory
"""

# ruff: noqa: D102 - a test says what it shows in its name

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Protocol

import pytest

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.swarms.messages.message import Message
from aurora_swarm.swarms.messages.messages import Messages
from aurora_swarm.swarms.messages.reading import Inbox, Subscription

ODD_TEXTS = (
    "",
    " ",
    "sch\u00f6n \u65e5\u672c \U0001f41d \u202e right to left",
    "nul\0nul\r\n\ttab",
    "{braces} {{n}} %s $x `y` <b>&amp;",
    '" OR 1=1 --\\',
    "0123456789" * 10_000,
)
SOON_S = 5.0
"""Within which something arrives on a busy machine."""


class MessagesFactory(Protocol):
    """Makes another way to the same messages."""

    def __call__(self, keep: int = 10_000) -> Awaitable[Messages]:
        """Open them; `keep` is the same in all calls of a test."""


async def taken(subscription: Subscription, count: int) -> list[Message]:
    """So many messages, all of which must come soon."""
    async with asyncio.timeout(SOON_S):
        return [await anext(subscription) for _ in range(count)]


async def rest(reader: Subscription | Inbox) -> list[str]:
    """Texts of all that is there."""
    read = reader.next if isinstance(reader, Subscription) else reader.receive
    texts = []
    while (message := await read(0.0)) is not None:
        texts.append(message.text)
    return texts


class MessagesContract:
    """The contract of `Log`, seen through `Messages`."""

    recalls = False
    """Whether messages are found by meaning."""

    async def test_a_subscriber_hears_what_is_said_from_now_on(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        await messages.publish("news", "before", sender="a")
        subscription = await messages.subscribe("news")
        sent = await messages.publish("news", "after", sender="a", data={"n": [1, None, {"x": "y"}]}, round=2)
        assert await taken(subscription, 1) == [sent]
        assert await rest(subscription) == []

    async def test_a_subscriber_may_begin_with_all_that_is_kept(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        for n in range(3):
            await messages.publish("news", str(n), sender="a")
        assert await rest(await messages.subscribe("news", after="")) == ["0", "1", "2"]

    async def test_a_cursor_goes_on_where_it_was_taken(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        first = await messages.subscribe("news", "other")
        for n in range(150):
            await messages.publish("news" if n % 2 else "other", str(n), sender="a")
        heard = {message.text for message in await taken(first, 70)}
        cursor = first.cursor
        elsewhere = await messages_factory()
        heard_later = await rest(await elsewhere.subscribe("news", "other", after=cursor))
        assert len(heard_later) == 80
        assert heard | set(heard_later) == {str(n) for n in range(150)}

    async def test_a_cursor_of_a_silent_topic_goes_on_too(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        cursor = (await messages.subscribe("news")).cursor
        await messages.publish("news", "1", sender="a")
        assert await rest(await messages.subscribe("news", after=cursor)) == ["1"]

    async def test_all_subscribers_hear_everything_of_each_sender_in_order(
        self, messages_factory: MessagesFactory
    ) -> None:
        ways = [await messages_factory() for _ in range(2)]
        subscriptions = [await way.subscribe("news") for way in ways for _ in range(2)]

        async def speak(sender: int) -> None:
            for n in range(12):
                await ways[sender % 2].publish("news", str(n), sender=str(sender))

        await asyncio.gather(*map(speak, range(8)))
        for subscription in subscriptions:
            heard = await taken(subscription, 8 * 12)
            for sender in range(8):
                said = [int(message.text) for message in heard if message.sender == str(sender)]
                assert said == list(range(12))
            assert await rest(subscription) == []
            assert subscription.missed == 0

    async def test_one_who_waits_is_woken(self, messages_factory: MessagesFactory) -> None:
        here, there = await messages_factory(), await messages_factory()
        subscription, inbox = await there.subscribe("x", "news"), there.inbox("b")
        waiting = [asyncio.create_task(subscription.next(3.0)), asyncio.create_task(inbox.receive(3.0))]
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waiting)
        began = asyncio.get_running_loop().time()
        sent = [await here.publish("news", "1", sender="a"), await here.send("b", "2", sender="a")]
        assert await asyncio.gather(*waiting) == sent
        assert asyncio.get_running_loop().time() - began < 2.5  # not by the look at the end of the wait

    async def test_a_wait_has_an_end(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        began = asyncio.get_running_loop().time()
        assert await (await messages.subscribe("news")).next(0.1) is None
        assert await messages.inbox("b").receive(0.1) is None
        assert 0.2 <= asyncio.get_running_loop().time() - began < SOON_S

    async def test_what_is_sent_to_one_reaches_only_that_one(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        for name in ("b", "c"):
            await messages.send(name, f"to {name}", sender="a")
        await messages.publish("b", "on a topic of that name", sender="a")
        assert await rest(messages.inbox("b")) == ["to b"]
        assert await rest(messages.inbox("c")) == ["to c"]

    async def test_a_message_stays_until_it_is_acknowledged(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        for n in range(5):
            await messages.send("b", str(n), sender="a")
        inbox = messages.inbox("b")
        read = [await inbox.receive(SOON_S) for _ in range(4)]
        assert read[1] is not None
        await inbox.acknowledge(read[1])
        assert await rest(inbox) == ["4"]  # it goes on
        elsewhere = (await messages_factory()).inbox("b")
        assert await rest(elsewhere) == ["2", "3", "4"]
        await inbox.acknowledge(read[1])  # again, to no effect
        await inbox.acknowledge(read[0] or read[1])
        assert await rest(messages.inbox("b")) == ["2", "3", "4"]

    async def test_a_loop_over_an_inbox_acknowledges_what_it_has_left(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        for n in range(3):
            await messages.send("b", str(n), sender="a")
        async for message in messages.inbox("b"):
            if message.text == "1":
                break  # as if it died here
        assert await rest(messages.inbox("b")) == ["1", "2"]

    async def test_a_topic_keeps_the_newest_and_tells_what_was_missed(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory(keep=10)
        subscription = await messages.subscribe("news")
        await messages.publish("news", "first", sender="a")
        assert [message.text for message in await taken(subscription, 1)] == ["first"]
        late = await messages.subscribe("news")
        for n in range(25):
            await messages.publish("news", str(n), sender="a")
        for slow in (subscription, late):
            assert await rest(slow) == [str(n) for n in range(15, 25)]
            assert slow.missed == 15
        everything = await messages.subscribe("news", after="")
        assert await rest(everything) == [str(n) for n in range(15, 25)]
        assert everything.missed == 0

    async def test_a_full_mailbox_refuses_until_it_is_read(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory(keep=10)
        for n in range(10):
            await messages.send("b", str(n), sender="a")
        with pytest.raises(StorageError, match="mailbox of b holds 10"):
            await messages.send("b", "too much", sender="a")
        await messages.send("c", "fine", sender="a")
        inbox = messages.inbox("b")
        first = await inbox.receive(SOON_S)
        assert first is not None
        await inbox.acknowledge(first)
        await messages.send("b", "10", sender="a")
        assert await rest(messages.inbox("b")) == [str(n) for n in range(1, 11)]

    async def test_what_arrives_twice_is_given_once(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        subscription, inbox = await messages.subscribe("news"), messages.inbox("b")
        for _ in range(2):
            await messages.log.append(Message(id="1", sender="a", topic="news", text="again"))
            await messages.log.append(Message(id="2", sender="a", to="b", text="again"))
        assert await rest(subscription) == ["again"]
        assert await rest(inbox) == ["again"]

    async def test_cancelling_waits_loses_nothing(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        subscription = await messages.subscribe("news")
        dice = random.Random(6)  # noqa: S311 - dice
        heard: list[str] = []

        async def listen() -> None:
            while len(heard) < 40:
                reading = asyncio.create_task(subscription.next(SOON_S))
                done, _ = await asyncio.wait({reading}, timeout=dice.random() * 0.004)
                if not done:
                    reading.cancel()
                    await asyncio.wait({reading})
                if not reading.cancelled() and (message := reading.result()) is not None:
                    heard.append(message.text)

        async def speak() -> None:
            for n in range(40):
                await messages.publish("news", str(n), sender="a")
                await asyncio.sleep(0.001)

        async with asyncio.timeout(30):
            await asyncio.gather(listen(), speak())
        assert heard == [str(n) for n in range(40)]

    async def test_cancelling_sends_leaves_order_and_whatever_was_sent(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        dice = random.Random(7)  # noqa: S311 - dice
        sent: list[str] = []
        for n in range(40):
            sending = asyncio.create_task(messages.publish("news", str(n), sender="a"))
            done, _ = await asyncio.wait({sending}, timeout=dice.random() * 0.002)
            if not done:
                sending.cancel()
                await asyncio.wait({sending})
            if not sending.cancelled():
                sent.append(sending.result().text)
        heard = await rest(await messages.subscribe("news", after=""))
        assert [text for text in heard if text in set(sent)] == sent
        assert len(heard) == len(set(heard))
        await messages.publish("news", "still", sender="a")
        assert (await rest(await messages.subscribe("news", after="")))[-1] == "still"

    async def test_closing_ends_whoever_waits(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        subscription, inbox = await messages.subscribe("news"), messages.inbox("b")

        async def all_of(reader: Subscription | Inbox) -> list[Message]:
            return [message async for message in reader]

        waiting = [asyncio.create_task(all_of(subscription)), asyncio.create_task(all_of(inbox))]
        await asyncio.sleep(0.1)
        await messages.log.aclose()
        await messages.log.aclose()
        async with asyncio.timeout(SOON_S):
            assert await asyncio.gather(*waiting) == [[], []]
        with pytest.raises(UsageError, match="closed"):
            await messages.publish("news", sender="a")

    async def test_text_arrives_unchanged(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        subscription = await messages.subscribe("news")
        sent = [await messages.publish("news", text, sender="a", data={text[:50]: text[:50]}) for text in ODD_TEXTS]
        assert await taken(subscription, len(sent)) == sent

    async def test_what_cannot_be_sent_is_refused_before(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        for bad in ("", "a/b", "a b", "x" * 101, "..", "to:b", "\u00e9"):
            with pytest.raises(UsageError, match="is no name"):
                await messages.publish(bad, sender="a")
            with pytest.raises(UsageError, match="is no name"):
                await messages.send(bad, sender="a")
            with pytest.raises(UsageError, match="is no name"):
                await messages.subscribe(bad)
        with pytest.raises(UsageError, match="262144 are allowed"):
            await messages.publish("news", "x" * 262_144, sender="a")
        with pytest.raises(UsageError, match="cannot be sent"):
            await messages.publish("news", "\ud800", sender="a")
        with pytest.raises(UsageError, match="cannot be sent"):
            await messages.publish("news", data={"x": object()}, sender="a")
        with pytest.raises(UsageError, match="nobody sends"):
            await messages.publish("news", sender="")
        with pytest.raises(UsageError, match="no topic"):
            await messages.subscribe()
        assert await rest(await messages.subscribe("news", after="")) == []

    async def test_a_cursor_that_is_none_is_refused(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        for cursor in ("7", "[]", '{"topic:news": 7}'):
            with pytest.raises(UsageError, match="is no cursor"):
                await messages.subscribe("news", after=cursor)
        foreign = await messages.subscribe("news", after='{"topic:news": "elsewhere"}')
        with pytest.raises(UsageError, match="is no position"):
            await foreign.next(0.0)

    async def test_an_answer_goes_back_in_the_thread(self, messages_factory: MessagesFactory) -> None:
        messages = await messages_factory()
        asked = await messages.send("b", "Which?", sender="a", round=3)
        answer = await messages.reply(asked, "That one.", sender="b")
        assert (answer.to, answer.reply_to, answer.thread, answer.round) == ("a", asked.id, asked.id, 3)
        again = await messages.reply(answer, "Why?", sender="a")
        assert (again.to, again.reply_to, again.thread) == ("b", answer.id, asked.id)
        on_topic = await messages.reply(await messages.publish("news", sender="a"), sender="b")
        assert (on_topic.topic, on_topic.to) == ("news", "")
        assert await messages.inbox("a").receive(SOON_S) == answer

    async def test_messages_are_recalled_by_meaning_or_it_is_said_that_they_are_not(
        self, messages_factory: MessagesFactory
    ) -> None:
        messages = await messages_factory()
        if not self.recalls:
            with pytest.raises(UsageError, match="cannot be recalled"):
                await messages.recall("water")
            return
        sea = await messages.publish("finds", "The ocean is deep and salty.", sender="a", round=1)
        car = await messages.publish("finds", "A car needs petrol and an engine.", sender="b", round=1, thread=sea.id)
        mail = await messages.send("c", "Fish swim in the sea.", sender="a", round=2)
        assert await messages.recall("water of the sea", 1, topic="finds") == [sea]
        assert await messages.recall("engines of vehicles", 1) == [car]
        assert {found.id for found in await messages.recall("the sea", 10)} == {sea.id, car.id, mail.id}
        assert await messages.recall("the sea", to="c") == [mail]
        assert await messages.recall("the sea", sender="b") == [car]
        assert await messages.recall("the sea", thread=sea.id) == [car]
        assert await messages.recall("the sea", round=2) == [mail]
        with pytest.raises(UsageError, match="on a topic or in a mailbox"):
            await messages.recall("the sea", to="c", topic="finds")
