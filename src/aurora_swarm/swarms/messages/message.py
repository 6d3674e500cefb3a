"""What agents say to each other. Pure values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from aurora_swarm.errors import UsageError

MOST_BYTES = 256 * 1024
"""Of one message at most, as JSON."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something said. It is data, whoever says it: it belongs into an envelope of a prompt, never into a template.

    Args:
        id: Unique, and the same however often it arrives.
        sender: Who says it.
        to: Whose mailbox it is for; empty for what is said on a topic.
        topic: On which topic it is said; empty for what is for one.
        text: What is said, in words.
        data: What is said, as plain JSON.
        at: When it was sent, in seconds since 1970, on the sender's clock.
        reply_to: Id of the message that it answers; empty for none.
        thread: Id of the message that began the conversation; empty for none.
        round: Of a discussion in rounds, which; 0 for none.
    """

    id: str
    sender: str
    to: str = ""
    topic: str = ""
    text: str = ""
    data: Mapping[str, Any] = {}
    at: float = 0.0
    reply_to: str = ""
    thread: str = ""
    round: int = 0

    @property
    def channel(self) -> str:
        """Where it is kept: `mailbox_of` its receiver, or `topic_of` its topic."""
        return mailbox_of(self.to) if self.to else topic_of(self.topic)


def topic_of(name: str) -> str:
    """The channel of a topic.

    Raises:
        UsageError: It cannot be called so.
    """
    return f"topic:{_checked(name, 'topic')}"


def mailbox_of(name: str) -> str:
    """The channel of somebody's mailbox.

    Raises:
        UsageError: Nobody can be called so.
    """
    return f"to:{_checked(name, 'mailbox')}"


def is_mailbox(channel: str) -> bool:
    """Whether what it holds is kept until it is acknowledged, rather than until newer messages take its place."""
    return channel.startswith("to:")


def check_channel(channel: str) -> None:
    """Refuse what is neither a topic nor a mailbox.

    Raises:
        UsageError: It is neither.
    """
    kind, _, name = channel.partition(":")
    if kind not in {"topic", "to"}:
        raise UsageError(f"{channel!r} is no channel", remedy="a channel is topic:NAME or to:NAME")
    _checked(name, kind)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)


def encoded(message: Message) -> bytes:
    """A message as it travels.

    Raises:
        UsageError: Its data is no JSON, or it is larger than 256 KiB.
    """
    try:
        body = _encoder.encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:  # a lone surrogate is a ValueError
        raise UsageError(
            f"the message cannot be sent: {error}", remedy="text is Unicode, data is plain JSON"
        ) from error
    if len(body) > MOST_BYTES:
        raise UsageError(
            f"the message has {len(body)} bytes, {MOST_BYTES} are allowed", remedy="store it, and send where it is"
        )
    return body


def decoded(body: bytes | str) -> Message:
    """A message that has travelled.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _decoder.decode(body)


def _checked(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a {what}", remedy="use 1 to 100 letters, digits, '_', '-' and '.'; an id is one"
        )
    return name
