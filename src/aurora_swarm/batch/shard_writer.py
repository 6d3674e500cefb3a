"""The one writer of a shard: what many agents hear becomes few writes, and each of them renews the lease."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aurora_swarm.errors import FencedError, StorageError
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.values.shard import Batch, Claim, Result, Turn

RENEWALS = 4
"""Renewals per lease, so that three may be late."""


class ShardWriter:
    """Writes for one shard: what comes while a write is under way goes into the next one, all together.

    What a method has returned from is durable. After a failure every method raises it: nothing more is written.

    Args:
        store: Where to.
        claim: The right to it.
        lease_s: Seconds of its lease.
    """

    def __init__(self, store: ShardStore, claim: Claim, lease_s: float) -> None:
        self._store = store
        self._claim = claim
        self._renew_s = lease_s / RENEWALS
        self._begun: list[str] = []
        self._turns: list[Turn] = []
        self._results: list[Result] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._due = asyncio.Event()
        self._error: FencedError | StorageError | None = None

    async def begin(self, key: str) -> None:
        """A job is begun now."""
        self._begun.append(key)
        await self._written()

    async def turn(self, turn: Turn) -> None:
        """Something was heard."""
        self._turns.append(turn)
        await self._written()

    async def result(self, result: Result) -> None:
        """A job has ended."""
        self._results.append(result)
        await self._written()

    async def write(self) -> None:
        """Write what comes, and renew the lease where nothing does; until it is cancelled.

        Raises:
            FencedError: The shard has another owner.
            StorageError: The store cannot be reached any more.
        """
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renew_s):
                    await self._due.wait()
            await self._write_once()

    async def _written(self) -> None:
        if self._error is not None:
            raise self._error
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._due.set()
        await done

    async def _write_once(self) -> None:
        batch = Batch(self._begun, self._turns, self._results)
        waiting = self._waiting
        self._begun, self._turns, self._results, self._waiting = [], [], [], []
        self._due.clear()
        try:
            await self._store.apply(self._claim, batch)
        except (FencedError, StorageError) as error:
            self._error = error
            for each in (*waiting, *self._waiting):
                if not each.done():
                    each.set_exception(error)
            raise
        for each in waiting:
            if not each.done():
                each.set_result(None)
