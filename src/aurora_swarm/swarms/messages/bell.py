"""Waiting for news of channels, without looking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


class Bell:
    """Wakes those who wait for a channel. Belongs to one event loop."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = {}

    def ring(self, channel: str) -> None:
        """There is something new in it."""
        for rung in self._listeners.get(channel, ()):
            rung.set()

    def ring_all(self) -> None:
        """There may be something new everywhere."""
        for channel in self._listeners:
            self.ring(channel)

    @contextmanager
    def listening(self, channels: Iterable[str]) -> Iterator[asyncio.Event]:
        """An event that is set once one of the channels is rung, from now on."""
        rung, names = asyncio.Event(), tuple(channels)
        for name in names:
            self._listeners.setdefault(name, set()).add(rung)
        try:
            yield rung
        finally:
            for name in names:
                self._leave(name, rung)

    def _leave(self, name: str, rung: asyncio.Event) -> None:
        there = self._listeners.get(name)
        if there is not None:
            there.discard(rung)
            if not there:
                del self._listeners[name]

    async def first(
        self,
        look: Callable[[], Awaitable[Sequence[T]]],
        channels: Iterable[str],
        *,
        wait_s: float,
        look_again_s: float = float("inf"),
    ) -> Sequence[T]:
        """What a look finds, as soon as it finds something.

        Args:
            look: Looks once. It is called before the wait, whenever a channel is rung, and at the end.
            channels: Which are of interest.
            wait_s: Seconds at most; then the result is empty.
            look_again_s: Looks also after so long, where a ring may be lost.
        """
        loop, names = asyncio.get_running_loop(), tuple(channels)
        deadline = loop.time() + wait_s
        while True:
            with self.listening(names) as rung:  # before the look: what comes after it rings
                found = await look()
                left_s = deadline - loop.time()
                if found or left_s <= 0:
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, look_again_s)):
                        await rung.wait()
