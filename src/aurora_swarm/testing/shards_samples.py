"""A run, its jobs and how it is opened, for tests of what keeps the contract of `ShardStore`."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.values.shard import Claim, Job, Output, RunPlan, shard_of

LEASE_S = 0.5
"""Long enough for a busy machine to renew in time, short enough to be waited for."""
PLAN = RunPlan(run="run", shards=4, spec=b"\x00what\xff", digest="d1", lease_s=30.0)
SHORT = RunPlan(run="run", shards=4, digest="d1", lease_s=LEASE_S)
SOON_S = 5.0
"""Within which something arrives on a busy machine."""

ODD_KEYS = (
    "",
    " ",
    "nul\0nul",
    "' OR 1=1 --",
    "sch\u00f6n \u65e5\u672c \U0001f41d",
    "half \ud83d",
    "k" * 3_000,
    "a:b:{c}",
)
ODD_PAYLOADS = (b"", bytes(range(256)), b"0123456789" * 30_000)


class ShardsFactory(Protocol):
    """Opens one run, as another process would at every call of a test."""

    def __call__(self, plan: RunPlan | None = None) -> Awaitable[ShardStore]:
        """Open it; with a plan it is made where it does not exist yet."""


def job(number: int) -> Job:
    """A job with a payload of its own."""
    return Job(f"job-{number}", number, f"payload {number}".encode())


def jobs_of(shard: int, count: int, shards: int = PLAN.shards) -> list[Job]:
    """Jobs that belong to a shard."""
    found = (each for each in map(job, range(1_000_000)) if shard_of(each.key, shards) == shard)
    return [next(found) for _ in range(count)]


async def all_outputs(store: ShardStore, limit: int = 7) -> list[Output]:
    """The stream from its beginning to what is its end now."""
    read: list[Output] = []
    while more := await store.outputs(read[-1].cursor if read else "", limit):
        assert len(more) <= limit
        read += more
    return read


async def claimed(store: ShardStore, shard: int, owner: str = "a", *, force: bool = False) -> Claim:
    """A claim that must succeed."""
    claim = await store.claim(shard, owner, force=force)
    assert claim is not None
    assert (claim.shard, claim.owner) == (shard, owner)
    return claim


async def keys_of(store: ShardStore, claim: Claim, limit: int = 100, skip: Sequence[str] = ()) -> list[str]:
    """Keys of what is unfinished."""
    return [unfinished.job.key for unfinished in await store.load(claim, limit, skip)]
