"""Owners of shards that do four-turn jobs as fast as a store lets them, and are as unlucky as it is."""

from __future__ import annotations

import asyncio
from collections import Counter

from aurora_swarm.errors import FencedError
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.values.shard import Batch, Claim, Job, Output, Result, Turn, Unfinished

TURNS = 4
_AT_ONCE = 50
_IDLE_S = 0.05


def jobs(count: int) -> list[Job]:
    """Jobs with payloads of their own."""
    return [Job(f"job {n}", n, b"payload of %d" % n) for n in range(count)]


class Owner:
    """Claims shards and works on them until the run is done.

    Args:
        store: The run, as one process sees it.
        name: Who this is.

    Attributes:
        turns: How often each turn was taken.
        fenced: How often a write was refused.
    """

    def __init__(self, store: ShardStore, name: str, turn_s: float = 0.002) -> None:
        self.turns: Counter[tuple[str, int]] = Counter()
        self.fenced = 0
        self._store = store
        self._name = name
        self._turn_s = turn_s

    async def work(self) -> None:
        """Work until every job has a result."""
        while True:
            claim = await self._store.claim_any(self._name)
            if claim is not None:
                await self._own(claim)
                continue
            progress = await self._store.progress()
            if progress.whole and progress.finished == progress.admitted:
                return
            await asyncio.sleep(_IDLE_S)

    async def _own(self, claim: Claim) -> None:
        try:
            while wave := await self._store.load(claim, _AT_ONCE):
                async with asyncio.TaskGroup() as group:
                    for unfinished in wave:
                        group.create_task(self._do(claim, unfinished))
            await self._store.release(claim)
        except* FencedError:
            self.fenced += 1

    async def _do(self, claim: Claim, unfinished: Unfinished) -> None:
        key, heard = unfinished.job.key, list(unfinished.turns)
        await self._store.apply(claim, Batch(begun=[key]))
        while len(heard) < TURNS - 1:
            await self._take_turn(key, len(heard))
            heard.append(b"%s, turn %d" % (unfinished.job.payload, len(heard)))
            await self._store.apply(claim, Batch(turns=[Turn(key, len(heard) - 1, heard[-1])]))
        await self._take_turn(key, len(heard))
        await self._store.apply(claim, Batch(results=[Result(key, b"; ".join(heard))]))

    async def _take_turn(self, key: str, version: int) -> None:
        self.turns[key, version] += 1
        await asyncio.sleep(self._turn_s)


def expected(count: int) -> list[tuple[int, bytes]]:
    """What the results must be, in the order of the inputs."""
    return [
        (job.index, b"; ".join(b"%s, turn %d" % (job.payload, turn) for turn in range(TURNS - 1)))
        for job in jobs(count)
    ]


async def read_all(store: ShardStore, count: int) -> list[Output]:
    """Read the stream by its cursors until so many results have come."""
    read: list[Output] = []
    while len(read) < count:
        read += await store.outputs(read[-1].cursor if read else "", 200, wait_s=1.0)
    return read
