"""Sending, publishing, subscribing and receiving, on whatever carries the messages."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.messages.log import START, Log, Wanted
from aurora_swarm.swarms.messages.message import Message, mailbox_of, topic_of
from aurora_swarm.swarms.messages.reading import Inbox, Subscription


class Messages:
    """What agents talk through; any number of them may share it. Made by `open_messages`.

    * **Order**: of what one sender sends through one `Messages`, everybody reads in the order in which it was sent: a
      send that had returned before the next one began comes first. Messages of several senders come in any order.
    * **At least once**: what a send returned for arrives. A sender that had to try again may have sent it twice, with
      one id; a subscription and an inbox leave out an id that was among their last 4,096.
    * **Bounds**: a topic keeps its newest messages, a mailbox refuses more than it may hold. A subscriber that reads
      slower than others publish costs nothing; once it is farther behind than what is kept, it goes on with the
      oldest message that is kept, and `Subscription.missed` counts the others.
    * **Cancelling** a send may or may not have sent it; cancelling a wait loses nothing.

    Args:
        log: What carries them.
        ids: Makes the ids of messages.
        now: Seconds since 1970, for `Message.at`.
    """

    def __init__(self, log: Log, *, ids: Callable[[], str] = new_id, now: Callable[[], float] = time.time) -> None:
        self.log = log
        self._ids = ids
        self._now = now

    async def send(
        self,
        to: str,
        text: str = "",
        *,
        sender: str,
        data: Mapping[str, Any] | None = None,
        reply_to: str = "",
        thread: str = "",
        round: int = 0,  # noqa: A002 - what it is called everywhere
    ) -> Message:
        """Put a message into somebody's mailbox, where it stays until its owner acknowledges it.

        Args:
            to: Whose; they need not be there yet.
            text: What is said.
            sender: Who says it.
            data: What is said, as plain JSON.
            reply_to: As for `Message`.
            thread: As for `Message`.
            round: As for `Message`.

        Returns:
            The message; it is in the mailbox.

        Raises:
            UsageError: A name cannot be one, or the message is larger than 256 KiB or holds what is no JSON.
            StorageError: The mailbox is full, or what carries the messages could not be reached.
        """
        mailbox_of(to)
        return await self._said(
            Message(
                id=self._ids(),
                sender=sender,
                to=to,
                text=text,
                data=data or {},
                at=self._now(),
                reply_to=reply_to,
                thread=thread,
                round=round,
            )
        )

    async def publish(
        self,
        topic: str,
        text: str = "",
        *,
        sender: str,
        data: Mapping[str, Any] | None = None,
        reply_to: str = "",
        thread: str = "",
        round: int = 0,  # noqa: A002
    ) -> Message:
        """Say something to all who listen to a topic, now or later.

        Args:
            topic: Which.
            text: As for `send`.
            sender: As for `send`.
            data: As for `send`.
            reply_to: As for `Message`.
            thread: As for `Message`.
            round: As for `Message`.

        Raises:
            UsageError: As for `send`.
            StorageError: What carries the messages could not be reached.
        """
        topic_of(topic)
        return await self._said(
            Message(
                id=self._ids(),
                sender=sender,
                topic=topic,
                text=text,
                data=data or {},
                at=self._now(),
                reply_to=reply_to,
                thread=thread,
                round=round,
            )
        )

    async def reply(
        self, message: Message, text: str = "", *, sender: str, data: Mapping[str, Any] | None = None
    ) -> Message:
        """Answer a message: on its topic, or to its sender; in its thread, or in one that it begins."""
        thread = message.thread or message.id
        if message.topic:
            return await self.publish(
                message.topic,
                text,
                sender=sender,
                data=data,
                reply_to=message.id,
                thread=thread,
                round=message.round,
            )
        return await self.send(
            message.sender, text, sender=sender, data=data, reply_to=message.id, thread=thread, round=message.round
        )

    async def subscribe(self, *topics: str, after: str | None = None) -> Subscription:
        """Listen to topics.

        Args:
            topics: Which, at least one.
            after: From where on: a `Subscription.cursor`, ``""`` for everything that is kept, or None for what is said
                from now on. A topic that the cursor does not know begins now.

        Returns:
            What is said; it sees everything that is sent after this has returned. It need not be closed.

        Raises:
            UsageError: There is no topic, or the cursor is none.
            StorageError: What carries the messages could not be reached.
        """
        if not topics:
            raise UsageError("there is no topic", remedy="name at least one")
        channels = [topic_of(topic) for topic in topics]
        known = dict.fromkeys(channels, START) if after == "" else _positions(after)
        positions = {c: known[c] if c in known else await self.log.end(c) for c in channels}
        return Subscription(self.log, positions)

    def inbox(self, name: str) -> Inbox:
        """The mailbox of one who receives; it begins with what has not been acknowledged.

        Raises:
            UsageError: Nobody can be called so.
        """
        return Inbox(self.log, mailbox_of(name))

    async def recall(
        self,
        query: str,
        k: int = 10,
        *,
        topic: str | None = None,
        to: str | None = None,
        sender: str | None = None,
        thread: str | None = None,
        round: int | None = None,  # noqa: A002
    ) -> list[Message]:
        """The messages nearest in meaning to a text, nearest first; only where a vector store carries them.

        Args:
            query: What they should be about.
            k: At most so many.
            topic: Only of this topic.
            to: Only of this mailbox; not together with `topic`.
            sender: Only of this sender.
            thread: Only of this conversation.
            round: Only of this round.

        Raises:
            UsageError: These messages have no meanings, or both `topic` and `to` are given.
        """
        if topic is not None and to is not None:
            raise UsageError("a message is on a topic or in a mailbox", remedy="give topic= or to=, not both")
        channel = topic_of(topic) if topic is not None else mailbox_of(to) if to is not None else None
        wanted = Wanted(channel=channel, sender=sender, thread=thread, round=round)
        return list(await self.log.recall(query, k, wanted))

    async def _said(self, message: Message) -> Message:
        if not message.sender:
            raise UsageError("nobody sends this message", remedy="give sender= the id of who does")
        await self.log.append(message)
        return message


def _positions(cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    try:
        return msgspec.json.decode(cursor, type=dict[str, str])
    except msgspec.DecodeError:
        raise UsageError(f"{cursor[:50]!r} is no cursor", remedy="give a Subscription.cursor as it was got") from None
