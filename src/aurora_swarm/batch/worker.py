"""One of the equal processes of a run: owns shards, as many as its part is, until every input has its result.

A worker may come and go at any time: what it owns is another one's as soon as its leases are over. Nobody leads.
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import msgspec

from aurora_swarm.batch.answers import SharedAnswers
from aurora_swarm.batch.plan import Errand, Parcel, Where, decoded, revived, unpacked
from aurora_swarm.batch.run import BatchOptions, compiler_for, pool_options, with_servers
from aurora_swarm.batch.shards import ShardCompiler, Workplace, run_shard, workplace
from aurora_swarm.batch.sharing import EndpointShares
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.batch.warming import Prefetcher
from aurora_swarm.errors import FencedError
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.pools.open import Say, open_pool
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.settings import load_settings
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.shard import Claim

Revive = Callable[[Parcel], BatchSpec]

PAUSE_S = 0.2
"""After which a worker that could take up more looks for a shard again."""

SHARDS = "shards"
"""What workers share the run's shards as."""


async def main(argument: str) -> None:
    """The worker function of a batch from Python, for `aurora_swarm.ports.engine.Engine`.

    Args:
        argument: An `aurora_swarm.batch.plan.Errand` as JSON.
    """
    errand = msgspec.json.decode(argument, type=Errand)
    await work(errand.store, errand.run, where=errand.where)


async def work(
    store_url: str, run: str, *, where: Where | None = None, revive: Revive = revived, say: Say | None = None
) -> int:
    """Work on a run until every input has its result.

    Cancelling ends all agents, and gives back what is owned.

    Args:
        store_url: Where the run is.
        run: Its id.
        where: Where the model is; None for where it was when the run was made.
        revive: Makes the batch of what the run holds.
        say: Told in plain sentences what takes time before the first agent.

    Returns:
        How many jobs came to their end here.

    Raises:
        UsageError: There is no such run, or what it says cannot be used here.
        StorageError: The store cannot be reached any more.
    """
    store = await open_shards(store_url, run=run)
    name = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
    try:
        parcel = unpacked(store.plan.spec)
        spec = _with_max_tokens(revive(parcel), parcel.max_tokens)
        parcel = msgspec.structs.replace(parcel, where=where or parcel.where)
        async with _opened(store, parcel, spec, name, say) as place:
            return await _Worker(store, place, name).work()
    finally:
        await store.aclose()


@asynccontextmanager
async def _opened(
    store: ShardStore, parcel: Parcel, spec: BatchSpec, name: str, say: Say | None
) -> AsyncGenerator[Workplace, None]:
    """All that agents need; closed again whatever ends the worker."""
    settings, where = load_settings(os.environ), parcel.where
    options = BatchOptions(
        model=where.model,
        backend=where.backend,
        max_inflight=where.max_inflight,
        timeout_s=where.timeout_s,
        local_model=where.local_model,
        streamed=where.streamed,
    )
    if spec.runtime is not None:
        spec.runtime.check()
    async with AsyncExitStack() as stack:
        opened = open_pool(where.backend, pool_options(options, spec.sampling, settings), say=say)
        pool = await stack.enter_async_context(opened)
        await stack.enter_async_context(EndpointShares(store, pool, name))
        spec = await with_servers(spec, stack)
        model = where.model or pool.model
        compiler = await compiler_for(spec, model, pool, shared=decoded(parcel.shared), kind=ShardCompiler)
        tools = ToolPool(elsewhere=await stack.enter_async_context(SharedAnswers(store, name)))
        stack.push_async_callback(tools.aclose)
        prefetches = where.prefetch and pool.capabilities.prefetch
        yield workplace(
            compiler,
            pool,
            tools,
            store.plan,
            max_inflight=where.max_inflight,
            prefetcher=await stack.enter_async_context(Prefetcher(pool)) if prefetches else None,
            api_key=settings.api_key or "",
        )


def _with_max_tokens(spec: BatchSpec, max_tokens: int | None) -> BatchSpec:
    """The batch with the sender's bound on tokens, so that all workers have the same one."""
    return msgspec.structs.replace(spec, sampling=msgspec.structs.replace(spec.sampling, max_tokens=max_tokens))


class _Owned(msgspec.Struct):
    """A shard that is owned.

    Args:
        task: Works on it.
        drain: Set when it is to be given back.
    """

    task: asyncio.Task[int]
    drain: asyncio.Event


class _Worker:
    """Takes shards while it has room and its part is not full, and gives back what is above its part."""

    def __init__(self, store: ShardStore, place: Workplace, name: str) -> None:
        self._store = store
        self._place = place
        self._name = name
        self._owned: dict[int, _Owned] = {}
        self._ended = 0
        self._changed = asyncio.Event()

    async def work(self) -> int:
        """Work until nothing is left to do; returns how many jobs ended here."""
        try:
            while not await self._is_done():
                await self._take_part()
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(PAUSE_S, self._place.lease_s / 4)):
                        await self._changed.wait()
                self._changed.clear()
                self._collect()
            return self._ended
        finally:
            await self._leave()

    async def _is_done(self) -> bool:
        if self._owned:
            return False
        progress = await self._store.progress()
        return progress.whole and progress.finished >= progress.admitted

    async def _take_part(self) -> None:
        total = self._store.plan.shards
        held = sum(not owned.drain.is_set() for owned in self._owned.values())
        # Nothing is held against others: leases see to it that a shard has one owner, so a part may shrink at once.
        part = await self._store.share(SHARDS, self._name, held=0, want=total, total=total)
        for owned in [each for each in self._owned.values() if not each.drain.is_set()][max(part, 1) :]:
            owned.drain.set()
        while held < part:
            claim = await self._store.claim_any(self._name)
            if claim is None:
                return
            self._own(claim)
            held += 1
            await asyncio.sleep(0)

    def _own(self, claim: Claim) -> None:
        drain = asyncio.Event()
        task = asyncio.create_task(run_shard(self._store, claim, self._place, drain))
        task.add_done_callback(lambda _: self._changed.set())
        self._owned[claim.shard] = _Owned(task, drain)

    def _collect(self) -> None:
        """Forget shards that are given back or lost; whatever else ended one ends the worker."""
        for shard, owned in list(self._owned.items()):
            if owned.task.done():
                del self._owned[shard]
                with suppress(FencedError):
                    self._ended += owned.task.result()

    async def _leave(self) -> None:
        tasks = [owned.task for owned in self._owned.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
