"""Which agents of a process are under way together: one that may be poison is kept from the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

SUSPECTS = 8
"""Agents whose worker died with them that are under way at a time: so many at most die with one of them again."""


class Company:
    """Agents that are under way in one process.

    An agent that a worker died with is a suspect. Few of them are under way at a time, and on its last attempt each is
    all alone: so a job that kills its process takes no other one's last attempt with it.

    Args:
        max_attempts: How often an agent is begun.
    """

    def __init__(self, max_attempts: int) -> None:
        self._last = max(1, max_attempts - 1)
        self._inside = 0
        self._empty = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._one = asyncio.Lock()
        self._suspects = asyncio.Semaphore(SUSPECTS)

    @asynccontextmanager
    async def admit(self, attempts: int) -> AsyncGenerator[None, None]:
        """Wait until an agent may be under way, and count it as such.

        Args:
            attempts: How often it was begun by a worker that died.
        """
        if not attempts:
            async with self._among_others():
                yield
        elif attempts < self._last:
            async with self._suspects, self._among_others():
                yield
        else:
            async with self._alone():
                yield

    @asynccontextmanager
    async def _among_others(self) -> AsyncGenerator[None, None]:
        while not self._open.is_set():
            await self._open.wait()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            self._empty.set()

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None, None]:
        async with self._one:
            self._open.clear()
            try:
                while self._inside:
                    self._empty.clear()
                    await self._empty.wait()
                yield
            finally:
                self._open.set()
