"""What has been said between an agent and its model: a beginning that never changes, and exchanges. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from aurora_swarm.values.message import Message

SILENT = "(nothing was said)"
"""Stands for an empty message of the model, which some providers refuse."""


class Exchange(msgspec.Struct, frozen=True):
    """What belongs together: what the model said, and what it was told about it. Never torn apart.

    Args:
        said: The model's message.
        told: The answers to its calls, or a correction, then whatever it was reminded of.
        steps: How many steps it stands for: 1 as it happened, more when it replaces those that were left out.
        stands_for: The calls of the steps that it replaces, in words; empty for an exchange as it happened.
    """

    said: Message
    told: tuple[Message, ...]
    steps: int = 1
    stands_for: str = ""


class Conversation:
    """One conversation under way.

    Args:
        beginning: The system prompt and the task; stays as it is, byte by byte.

    Attributes:
        beginning: See there.
        exchanges: What followed, oldest first.
    """

    def __init__(self, beginning: Iterable[Message]) -> None:
        self.beginning = tuple(beginning)
        self.exchanges: list[Exchange] = []

    def messages(self) -> tuple[Message, ...]:
        """All of it, as a call to the model carries it."""
        return flat(self.beginning, self.exchanges) if self.exchanges else self.beginning

    def correct(self, text: str, correction: str) -> None:
        """The model's text could not be used.

        Args:
            text: What it said.
            correction: What it is told about that.
        """
        self.exchanges.append(Exchange(Message("assistant", spoken(text)), (Message("user", readable(correction)),)))

    def go_on(self, messages: tuple[Message, ...], reminder: str) -> None:
        """The model used tools.

        Args:
            messages: Its message, then the answers.
            reminder: Said after them; empty for nothing.
        """
        after = (Message("user", reminder),) if reminder else ()
        self.exchanges.append(Exchange(messages[0], (*messages[1:], *after)))


def flat(beginning: tuple[Message, ...], exchanges: Iterable[Exchange]) -> tuple[Message, ...]:
    """The messages in their order."""
    messages = list(beginning)
    for exchange in exchanges:
        messages.append(exchange.said)
        messages += exchange.told
    return tuple(messages)


def readable(text: str) -> str:
    """A text without halves of surrogate pairs, which no wire can carry; the same text where it has none."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def spoken(text: str) -> str:
    """What the model said, fit to be said again."""
    return readable(text) if text and not text.isspace() else SILENT
