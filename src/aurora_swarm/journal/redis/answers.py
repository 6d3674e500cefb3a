"""Answers of pure tools that processes share: one makes the call, the others wait for its end.

While any task of a process waits, one connection follows the stream of calls that have ended, and wakes those whose
call it was. A call is held by a lease that is renewed for as long as its process lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any

from redis.exceptions import RedisError

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.journal.redis import scripts
from aurora_swarm.journal.redis.following import last_id, read_on
from aurora_swarm.journal.redis.writer import Argument, Line

_TOKEN_LENGTH = 16
_PAUSE_S = 0.1


class Answers:
    """The answers of one run, as one process sees them.

    Args:
        line: To Redis.
        prefix: Of the run's names.
        lease_s: Seconds for which a call is held that is not renewed.
    """

    def __init__(self, line: Line, prefix: str, lease_s: float) -> None:
        self._line = line
        self._meta = f"{prefix}meta"
        self._ended = f"{prefix}ended"
        self._lease_s = lease_s
        self._held: dict[tuple[bytes, bytes], bytes] = {}
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    async def find(self, key: bytes) -> bytes | None:
        """What a call came to."""
        return (await self._look(key))[1]

    async def begin(self, key: bytes, owner: bytes) -> bool:
        """Whether this process is to make a call."""
        token = secrets.token_hex(_TOKEN_LENGTH // 2).encode()
        asked: tuple[Argument, ...] = (key, owner, token, round(1000 * self._lease_s))
        if not await self._line.call(scripts.BEGIN_ANSWER, self._meta, *asked):
            return False
        self._held[key, owner] = token + owner
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="renews calls")
        return True

    async def end(self, key: bytes, owner: bytes, payload: bytes | None, ttl_s: float | None) -> None:
        """What a call came to, or that it failed."""
        self._held.pop((key, owner), None)
        lives_ms = 0 if ttl_s is None else max(1, round(1000 * ttl_s))
        said: tuple[Argument, ...] = (int(payload is not None), payload or b"", lives_ms)
        weight = len(payload or b"")
        asked: tuple[Argument, ...] = (key, owner, _TOKEN_LENGTH, *said)
        await self._line.call(scripts.END_ANSWER, self._meta, *asked, weight=weight)

    async def wait(self, key: bytes, wait_s: float) -> bytes | None:
        """Wait for the end of a call; None where none came in time, it failed, or nobody makes it."""
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            await self._follow()
            return await self._awaited(key, event, wait_s)
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]

    async def aclose(self) -> None:
        """End the tasks, and wake whoever waits."""
        tasks = {task for task in (self._renewing, self._following) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._ring()

    async def _awaited(self, key: bytes, event: asyncio.Event, wait_s: float) -> bytes | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        while True:
            event.clear()
            held, answer = await self._look(key)
            left = deadline - loop.time()
            if answer is not None or not held or left <= 0:
                return answer
            # Looks again though nobody rang: who makes the call may have died.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, self._lease_s)):
                    await event.wait()

    async def _look(self, key: bytes) -> tuple[bool, bytes | None]:
        held, answer = await self._line.call(scripts.LOOK_FOR_ANSWER, self._meta, key)
        return bool(held), answer

    def _ring(self, key: bytes | None = None) -> None:
        chosen = self._waiting.values() if key is None else [self._waiting.get(key, set())]
        for event in (event for events in chosen for event in events):
            event.set()

    async def _renew(self) -> None:
        while self._held:
            await asyncio.sleep(self._lease_s / 3)
            names = [part for (key, _), holder in self._held.items() for part in (key, holder)]
            # Where it fails, the lease runs out, and whoever ends the call is told why by its own request.
            with contextlib.suppress(StorageError, UsageError):
                await self._line.call(scripts.RENEW_ANSWERS, self._meta, round(1000 * self._lease_s), *names)

    async def _follow(self) -> None:
        """See to it that what ends from now on is heard of."""
        if self._following is None or self._following.done():
            began = await last_id(self._line, self._ended)
            if self._following is None or self._following.done():
                self._following = asyncio.create_task(self._hear(began), name="follows calls")

    async def _hear(self, cursor: str) -> None:
        while self._waiting:
            try:
                rows: list[Any] = await read_on(self._line, self._ended, cursor, limit=1000, wait_s=1.0)
            except (RedisError, OSError):
                self._ring()
                await asyncio.sleep(_PAUSE_S)
                continue
            for id_, fields in rows:
                cursor = id_.decode()
                self._ring(fields[1])
