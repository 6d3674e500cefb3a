"""The seam to what several processes share of one run, so that each may die at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aurora_swarm.values.shard import Batch, Claim, Job, Output, RunPlan, ShardProgress, Unfinished


class ShardStore(Protocol):
    """One run's jobs, turns and results; any number of processes have it open.

    Contract, held by one suite for every store (`aurora_swarm.testing.shards_contract`):

    * What a method has returned from is durable, as far as the store itself is: it survives the process.
    * First write wins: a job has one result and one turn per version, whoever writes, however often.
    * A fence: `apply`, `load` and `release` of a claim that is not the latest are refused as a whole.
    * A result is in the stream of outputs exactly once, and is there once `apply` has returned.
    * Leases are measured on the store's clock alone.
    * Connections that are lost are made anew, with back-off, within `patience_s` of the store; then `StorageError`.
    """

    plan: RunPlan

    async def admit(self, jobs: Sequence[Job]) -> int:
        """Put jobs in; those whose key is known are left as they are. Returns how many were new."""

    async def open_admission(self) -> None:
        """Jobs are to come, also where all were in before: whoever works on the run waits for them."""

    async def close_admission(self) -> None:
        """All jobs are in."""

    async def claim(self, shard: int, owner: str, *, force: bool = False) -> Claim | None:
        """Take a shard; None while another one's lease runs, unless forced (by who knows that the other is dead)."""

    async def claim_any(self, owner: str) -> Claim | None:
        """Take some shard that nobody owns and that has unfinished jobs; None where there is none now."""

    async def load(self, claim: Claim, limit: int, skip: Sequence[str] = ()) -> list[Unfinished]:
        """Unfinished jobs of a shard with all their turns, in order of admission.

        Args:
            claim: The right to it.
            limit: How many at most, so that memory is bounded.
            skip: Keys of jobs that the owner has already.

        Raises:
            FencedError: The shard has another owner.
        """

    async def apply(self, claim: Claim, batch: Batch) -> None:
        """Write a batch, all of it or nothing, and renew the lease. An empty batch renews it.

        Raises:
            FencedError: The shard has another owner, or the lease was over and another one had it meanwhile. Nothing
                was written: the owner must stop at once.
        """

    async def release(self, claim: Claim) -> None:
        """Give a shard back before its lease is over; nothing happens where it is lost already."""

    async def outputs(self, cursor: str = "", limit: int = 1000, *, wait_s: float = 0.0) -> list[Output]:
        """What came after a cursor, in the order of the stream; the same for every reader.

        Args:
            cursor: Of the last one that was read; empty for the beginning.
            limit: How many at most.
            wait_s: How long to wait where there is nothing.
        """

    async def progress(self) -> ShardProgress:
        """The run at this moment; cheap."""

    # -- what processes share besides the jobs -----------------------------------------------------------------

    async def share(self, resource: str, owner: str, *, held: int, want: int, total: int) -> int:
        """Lease a share of something bounded, such as the calls that an endpoint takes at a time.

        The shares of all owners together never exceed `total`, also while one of them dies: what a dead one had is
        free only when its lease is over. Every owner has an equal part in the end, unless another wants less; one that
        has more than its part keeps what it holds until it has drained.

        Args:
            resource: What is shared.
            owner: Who asks; called again it renews.
            held: How much of its share it uses at this moment.
            want: How much it could use; 0 gives back all that it does not hold.
            total: How much there is.

        Returns:
            How much it may use until its lease is over; never less than `held` while its lease runs.
        """

    async def find_answer(self, key: str) -> bytes | None:
        """What an equal call of a pure tool came to, in any process; None where none has ended."""

    async def begin_answer(self, key: str, owner: str) -> bool:
        """Whether this process is to make the call; no other one is told so until it has ended or its lease is over."""

    async def end_answer(self, key: str, owner: str, payload: bytes | None, *, ttl_s: float | None = None) -> None:
        """What the call came to, for all who wait; None where it failed, so that another process makes it."""

    async def await_answer(self, key: str, wait_s: float) -> bytes | None:
        """Wait for the end of a call that another process makes; None where none came in time, or it failed."""

    async def aclose(self) -> None:
        """Let go of the store. May be called twice."""
