"""The seam to whatever carries messages: channels that are appended to and read from a position on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from aurora_swarm.swarms.messages.message import Message

START = ""
"""The position before everything that is kept."""

MOST_ENTRIES = 1_000
"""Entries of one answer at most."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A message where it stands.

    Args:
        channel: Of the message.
        position: Reading goes on behind it from here; opaque, and only for the log that gave it.
        message: What was said.
        missed: How many messages stood between the position that was read from and this one, and are no longer kept.
    """

    channel: str
    position: str
    message: Message
    missed: int = 0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages are recalled: those to which everything that is given applies.

    Args:
        channel: Only this one's; None for all.
        sender: Only what this one said.
        thread: Only of this conversation.
        round: Only of this round.
    """

    channel: str | None = None
    sender: str | None = None
    thread: str | None = None
    round: int | None = None


class Log(Protocol):
    """Carries messages. Belongs to one event loop; any number of tasks may use it at once.

    Contract, held by one suite for every implementation (`aurora_swarm.testing.messages_contract`):

    * **Order.** Of two messages of one log object on one channel, that whose `append` had returned before the other
      began is read first, by everybody. Across log objects (other processes) any order may come, the same for all who
      read one channel from the same position.
    * **At least once.** What `append` returned for is read by everybody who reads on, until it is trimmed from a
      topic or dropped from a mailbox. What it raised for, or what was cancelled, is read at most as often as it was
      tried, with the same id each time.
    * **Bounds.** A channel keeps so many messages. On a topic the oldest goes, and `Entry.missed` tells whoever had not
      read it; a mailbox refuses, since nothing may be lost there.
    * **Readers cost nothing** while they do not read: nothing is kept for them.
    * **Cancelling** any call leaves the log usable.

    Attributes:
        closed: Whether `aclose` was called.
    """

    closed: bool

    async def append(self, message: Message) -> None:
        """Add a message to its channel. Once this returns, the next read sees it, in every process.

        Raises:
            UsageError: The message cannot travel; nothing was added.
            StorageError: The mailbox is full, or what carries the messages cannot be reached, for as long as was tried.
        """

    async def read(self, after: Mapping[str, str], *, limit: int = 100, wait_s: float = 0.0) -> Sequence[Entry]:
        """What stands behind positions; of each channel in its order.

        Args:
            after: Position by channel.
            limit: At most so many entries.
            wait_s: Seconds to wait for the first one when there is none.

        Returns:
            Empty when there is none in time.

        Raises:
            StorageError: As for `append`.
            UsageError: A position is none, or the log is closed.
        """

    async def end(self, channel: str) -> str:
        """The position behind everything that is there now."""

    async def drop(self, channel: str, upto: str) -> None:
        """Forget what stands in a mailbox up to a position; a position from before is no error."""

    async def recall(self, query: str, k: int, wanted: Wanted) -> Sequence[Message]:
        """The messages nearest in meaning to a text, nearest first.

        Raises:
            UsageError: What carries these messages knows no meanings.
        """

    async def aclose(self) -> None:
        """Wake whoever waits, and release what it holds. May be called twice."""
