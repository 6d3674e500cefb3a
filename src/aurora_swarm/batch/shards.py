"""Owns a shard: loads its unfinished jobs, leads their agents on from where they were, writes what comes of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from aurora_swarm.batch.company import Company
from aurora_swarm.batch.compiler import Job as Compiled
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.plan import decoded
from aurora_swarm.batch.scheduler import WaveScheduler
from aurora_swarm.batch.shard_ledger import ShardLedger, ToolNotes, write_result
from aurora_swarm.batch.shard_writer import ShardWriter
from aurora_swarm.batch.warming import Prefetcher
from aurora_swarm.errors import AuroraSwarmError, FencedError, WorkerLostError
from aurora_swarm.pools.pool import Pool
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.shard import Claim, RunPlan, Unfinished

WAVE = 256
"""Agents of a shard under way at most."""

LESS = 4
"""Agents of slow tools are so many times fewer for each slot than in a run of one process: a process that dies leaves
all that it has under way to others, who must find room for it.
"""

RESCUED = 16
"""Agents that are taken up at once of a shard that had another owner before."""

PAUSE_S = 0.25
"""After which a shard that has agents under way is looked at again for further jobs."""

RELEASE_S = 1.0
"""What giving a shard back may take on the way out; who cannot wait for it lets the lease run out."""


class ShardCompiler(TaskCompiler):
    """Compiles jobs of a store: each keeps the index and the key that it has there."""

    def compile(self, index: int, values: Any) -> Compiled:
        """The plan for one unfinished job.

        Args:
            index: Of the input.
            values: The unfinished job.
        """
        job = values.job
        compiled = super().compile(index, decoded(job.payload))
        return Compiled(msgspec.structs.replace(compiled.task, key=job.key, index=job.index), compiled.tools)


class ShardScheduler(WaveScheduler):
    """Leads the agents of all shards that a process owns; they share its slots."""

    @property
    def width(self) -> int:
        """Agents under way at a time, so that no slot is idle while further ones are loaded."""
        return 2 * self._width if self._keeps else self._width // LESS

    async def lead(self, unfinished: Unfinished) -> AgentResult[Any]:
        """One agent to its end, when there is a slot for it; one that was begun before goes before the new ones."""
        begun = unfinished.turns or unfinished.attempts
        await self._slots.take(0 if begun else self._compiler.spec.max_turns)
        values: Any = unfinished
        return await self._one(unfinished.job.index, values)


class Workplace:
    """What the shards of a process share: who leads agents, who writes down, and who is under way.

    Args:
        scheduler: Leads agents.
        ledger: The scheduler's.
        max_attempts: How often an agent is begun whose worker dies with it.
        lease_s: Seconds of a lease.
    """

    def __init__(self, scheduler: ShardScheduler, ledger: ShardLedger, *, max_attempts: int, lease_s: float) -> None:
        self.scheduler = scheduler
        self.ledger = ledger
        self.company = Company(max_attempts)
        self.max_attempts = max_attempts
        self.lease_s = lease_s
        self.under_way = 0

    @property
    def room(self) -> int:
        """Agents that may be taken up."""
        return max(0, self.scheduler.width - self.under_way)


def workplace(
    compiler: ShardCompiler,
    pool: Pool,
    tools: ToolPool,
    plan: RunPlan,
    *,
    max_inflight: int | None = None,
    prefetcher: Prefetcher | None = None,
    api_key: str = "",
) -> Workplace:
    """What the shards of a process are worked on with.

    Args:
        compiler: Makes agents of jobs.
        pool: Where the model is.
        tools: Where the tools are.
        plan: Of the run.
        max_inflight: Model calls under way at a time; None for what the pool can take.
        prefetcher: Has an agent's prefix ready when its tool returns; None for nobody.
        api_key: For a runtime that asks the servers itself.
    """
    notes = ToolNotes()
    ledger = ShardLedger(compiler.output, notes)
    scheduler = ShardScheduler(
        compiler, pool, tools, ledger, notes, max_inflight=max_inflight, prefetcher=prefetcher, api_key=api_key
    )
    return Workplace(scheduler, ledger, max_attempts=plan.max_attempts, lease_s=plan.lease_s)


async def run_shard(store: ShardStore, claim: Claim, place: Workplace, drain: asyncio.Event | None = None) -> int:
    """Own a shard until it has no unfinished jobs.

    Jobs are loaded as there is room for them. Agents go on in mid-conversation; effects of which nobody knows whether
    they happened are not repeated. The lease is renewed in the background. Cancelling ends all agents and gives the
    shard back.

    Args:
        store: Where it is.
        claim: The right to it.
        place: What it has in common with the other shards of the process.
        drain: When set, nothing more is begun; the shard is given back when what is under way has ended.

    Returns:
        How many jobs came to their end.

    Raises:
        FencedError: The shard has another owner. All its agents were ended, and nothing more was written.
        StorageError: The store cannot be reached any more.
    """
    shard = _Shard(store, claim, place, drain or asyncio.Event())
    try:
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(shard.writer.write())
            await shard.work()
            writing.cancel()
    except BaseExceptionGroup as failed:
        raise _first(failed) from None
    finally:
        with suppress(AuroraSwarmError, TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await store.release(claim)
    return shard.ended


class _Shard:
    """A shard that is owned."""

    def __init__(self, store: ShardStore, claim: Claim, place: Workplace, drain: asyncio.Event) -> None:
        self.writer = ShardWriter(store, claim, place.lease_s)
        self.ended = 0
        self._store = store
        self._claim = claim
        self._place = place
        self._drain = drain
        self._under_way: set[str] = set()
        self._few = asyncio.Event()

    async def work(self) -> None:
        """Lead agents while there are unfinished jobs."""
        async with asyncio.TaskGroup() as agents:
            # Another owner may have died here: what it had under way is taken up also where there is no room.
            least = RESCUED if self._claim.epoch > 1 else 0
            while not self._drain.is_set():
                asked = min(WAVE - len(self._under_way), max(self._place.room, least))
                least = 0
                found = await self._store.load(self._claim, asked, tuple(self._under_way)) if asked > 0 else []
                for unfinished in found:
                    self._begin(agents, unfinished)
                if not self._under_way and (asked > 0 and not found):
                    return
                if not self._under_way:
                    await asyncio.sleep(PAUSE_S)
                await self._wait_for(len(self._under_way) // 2 if len(found) == asked else 0)

    def _begin(self, agents: asyncio.TaskGroup, unfinished: Unfinished) -> None:
        self._under_way.add(unfinished.job.key)
        self._place.under_way += 1
        agents.create_task(self._agent(unfinished)).add_done_callback(lambda _: self._end(unfinished.job.key))

    def _end(self, key: str) -> None:
        self._under_way.discard(key)
        self._place.under_way -= 1
        self._place.ledger.forget(key)
        self._few.set()

    async def _wait_for(self, few: int) -> None:
        """Wait until few agents are under way, or it is time to look for jobs that were put in meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                while len(self._under_way) > few:
                    self._few.clear()
                    await self._few.wait()

    async def _agent(self, unfinished: Unfinished) -> None:
        place, key = self._place, unfinished.job.key
        if unfinished.attempts >= place.max_attempts:
            await self._give_up(unfinished)
            return
        async with place.company.admit(unfinished.attempts):
            place.ledger.expect(unfinished, self.writer)
            result = await place.scheduler.lead(unfinished)
            if not result.key:  # it failed before it was an agent, so that nobody has written it
                await write_result(self.writer, result, key, [])
        self.ended += 1

    async def _give_up(self, unfinished: Unfinished) -> None:
        job = unfinished.job
        problem = f"its worker process died each of the {unfinished.attempts} times that the agent was begun"
        remedy = "look into the workers' own output for what kills them; a tool of this agent may"
        error = WorkerLostError(problem, remedy=remedy)
        lost: AgentResult[Any] = AgentResult(job.index, job.key, ok=False, output=None, error=error)
        await write_result(self.writer, lost, job.key, [])
        self.ended += 1


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """What made a shard end: being fenced before all else."""
    leaves = list(_leaves(failed))
    return next((each for each in leaves if isinstance(each, FencedError)), leaves[0])


def _leaves(failed: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    inner = (_leaves(each) if isinstance(each, BaseExceptionGroup) else [each] for each in failed.exceptions)
    return [leaf for leaves in inner for leaf in leaves]
