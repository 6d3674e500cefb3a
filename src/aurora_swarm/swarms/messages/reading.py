"""Reading messages: a subscription to topics, and an inbox."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.messages.log import START, Entry, Log
from aurora_swarm.swarms.messages.message import Message

_SLICE_S = 20.0
"""Of a wait without an end, so that no request stands open for longer."""
_PAGE = 100
_REMEMBERED = 4_096
"""Ids by which a message that arrives twice is known."""


class _Reader:
    """Reads channels from positions on, page by page."""

    def __init__(self, log: Log, positions: Mapping[str, str]) -> None:
        self.missed = 0
        self._log = log
        self._ahead = dict(positions)
        self._page: deque[Entry] = deque()
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def _next(self, timeout_s: float | None) -> Entry | None:
        """The next entry that is none of those before; None when there is none in time, or the log is closed."""
        loop = asyncio.get_running_loop()
        deadline = float("inf") if timeout_s is None else loop.time() + timeout_s
        while not self._log.closed:
            while self._page:
                entry = self._page.popleft()
                self.missed += entry.missed
                self._took(entry)
                if self._is_new(entry.message.id):
                    return entry
            left_s = max(deadline - loop.time(), 0.0)
            page = await self._read(min(left_s, _SLICE_S))
            if not page and loop.time() >= deadline:
                return None
        return None

    async def _read(self, wait_s: float) -> Sequence[Entry]:
        try:
            page = await self._log.read(self._ahead, limit=_PAGE, wait_s=wait_s)
        except UsageError:
            if self._log.closed:  # while we waited
                return ()
            raise
        for entry in page:
            self._ahead[entry.channel] = entry.position
        self._page.extend(page)
        return page

    def _took(self, entry: Entry) -> None:
        """An entry leaves the page; whoever reads it, or it is one that was there before."""

    def _is_new(self, id_: str) -> bool:
        if id_ in self._seen:
            return False
        self._seen[id_] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True


class Subscription(_Reader):
    """What is said on topics, as an iterator that ends when the messages are closed. For one task at a time.

    Args:
        log: What carries the messages.
        positions: From where on, by channel.

    Attributes:
        missed: How many messages were no longer kept when it came to them.
    """

    def __init__(self, log: Log, positions: Mapping[str, str]) -> None:
        super().__init__(log, positions)
        self._behind = dict(positions)

    @property
    def cursor(self) -> str:
        """Where it stands, for `Messages.subscribe` in this or another process: behind the latest message it gave."""
        return msgspec.json.encode(self._behind).decode()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = await self.next()
        if message is None:
            raise StopAsyncIteration
        return message

    async def next(self, timeout_s: float | None = None) -> Message | None:
        """The next message; None when none comes in time, or the messages are closed.

        Args:
            timeout_s: Seconds to wait; None for as long as it takes.

        Raises:
            StorageError: What carries the messages could not be reached.
        """
        entry = await self._next(timeout_s)
        return None if entry is None else entry.message

    def _took(self, entry: Entry) -> None:
        self._behind[entry.channel] = entry.position


class Inbox(_Reader):
    """A mailbox as its owner reads it; two at a time would both get everything. For one task at a time.

    As an iterator it gives each message once, and acknowledges it when the next one is asked for: a message whose
    receiver dies over it is there again. It ends when the messages are closed.

    Args:
        log: What carries the messages.
        channel: The mailbox's.
    """

    def __init__(self, log: Log, channel: str) -> None:
        super().__init__(log, {channel: START})
        self._channel = channel
        self._given: OrderedDict[str, str] = OrderedDict()
        self._latest: Message | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._latest is not None:
            await self.acknowledge(self._latest)
            self._latest = None
        self._latest = await self.receive()
        if self._latest is None:
            raise StopAsyncIteration
        return self._latest

    async def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message; it stays in the mailbox until it is acknowledged.

        Args:
            timeout_s: Seconds to wait; None for as long as it takes.

        Returns:
            None when none comes in time, or the messages are closed.

        Raises:
            StorageError: What carries the messages could not be reached.
        """
        entry = await self._next(timeout_s)
        if entry is None:
            return None
        self._given[entry.message.id] = entry.position
        return entry.message

    async def acknowledge(self, message: Message) -> None:
        """Have a message and all that this inbox gave before it taken out of the mailbox; done twice it does nothing.

        Raises:
            StorageError: What carries the messages could not be reached; they may or may not be out of it.
        """
        position = self._given.get(message.id)
        if position is None:
            return
        await self._log.drop(self._channel, position)
        while message.id in self._given:
            self._given.popitem(last=False)
