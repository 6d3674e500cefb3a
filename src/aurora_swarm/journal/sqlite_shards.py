"""A run that several processes of one machine share, in a SQLite file on a local disk."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from aurora_swarm.errors import StorageError
from aurora_swarm.journal.sqlite_shards_file import ShardFile, encoded
from aurora_swarm.journal.sqlite_shards_schema import now
from aurora_swarm.journal.sqlite_shards_thread import Request, ShardThread, Wait
from aurora_swarm.values.shard import Batch, Claim, Job, Output, RunPlan, ShardProgress, Unfinished

PATIENCE_S = 30.0
"""How long other processes may keep this one from writing; one that is stopped while it writes stops all."""

_T = TypeVar("_T")
_JOBS_PER_COMMIT = 2_000


class SqliteShardStore:
    """A run in a file; keeps the contract of `aurora_swarm.ports.shards.ShardStore`.

    Made by `open`. It belongs to the event loop in which it was opened. Every commit is on the disk before a method
    returns, and one commit serves all tasks of a process that wait. Leases are measured on the machine's clock since
    its start, which all of its processes share; after a restart of the machine all leases are over. What other
    processes write is noticed within about 50 ms. After a write has failed, every later one fails at once.

    Args:
        thread: The thread that owns the file.
        plan: What the run was made with.
        path: The file.
    """

    def __init__(self, thread: ShardThread, plan: RunPlan, path: Path) -> None:
        self.plan = plan
        self._thread = thread
        self._path = path
        self._closing = False

    @classmethod
    async def open(
        cls, path: str | Path, run: str, plan: RunPlan | None = None, *, patience_s: float = PATIENCE_S
    ) -> Self:
        """Open a run; the file and the run are made where they do not exist and there is a plan.

        A run that exists keeps the plan that it was made with. When cancelled, it lets go of the file first.

        Args:
            path: A file on a disk of this machine; it may hold several runs.
            run: The run's id.
            plan: Makes the run; None opens one that exists.
            patience_s: Seconds for which other processes may keep this one from writing, then `StorageError`.

        Raises:
            UsageError: There is no such run, and no plan to make it.
            JournalForeignError: Something else is there, or a newer version wrote it; it is left as it was.
            JournalError: The place cannot hold one, such as a network file system.
            StorageError: It could not be read or written.
        """
        thread = ShardThread(Path(path), run, plan, patience_s, asyncio.get_running_loop())
        try:
            return cls(thread, await asyncio.shield(thread.opened), Path(path))
        except asyncio.CancelledError:
            thread.close()
            await asyncio.shield(thread.ended)
            raise

    # -- jobs --------------------------------------------------------------------------------------------------

    async def admit(self, jobs: Sequence[Job]) -> int:
        """Put jobs in, 2,000 to a commit; returns how many were new."""
        new = 0
        for first in range(0, len(jobs), _JOBS_PER_COMMIT):
            new += await self._write(_admitting(jobs[first : first + _JOBS_PER_COMMIT]))
        return new

    async def open_admission(self) -> None:
        """Jobs are to come, also where all were in before."""
        await self._write(ShardFile.open_admission)

    async def close_admission(self) -> None:
        """All jobs are in."""
        await self._write(ShardFile.close_admission)

    async def claim(self, shard: int, owner: str, *, force: bool = False) -> Claim | None:
        """Take a shard; None while another one's lease runs, unless forced.

        Raises:
            UsageError: The run has no such shard.
        """
        return await self._write(lambda file: file.claim(shard, owner, force=force))

    async def claim_any(self, owner: str) -> Claim | None:
        """Take some shard that nobody owns and that has unfinished jobs; None where there is none now."""
        # Those who have nothing to do look often: they must not hold up those who write.
        if await self._read(ShardFile.claimable) is None:
            return None
        return await self._write(lambda file: file.claim_any(owner))

    async def load(self, claim: Claim, limit: int, skip: Sequence[str] = ()) -> list[Unfinished]:
        """Unfinished jobs of a shard with all their turns, in order of admission.

        Raises:
            FencedError: The shard has another owner.
        """
        skipped = frozenset(skip)
        return await self._read(lambda file: file.load(claim, limit, skipped))

    async def apply(self, claim: Claim, batch: Batch) -> None:
        """Write a batch, all of it or nothing, and renew the lease.

        Cancelling it does not take it back: it is written whole or not at all.

        Raises:
            FencedError: The shard has another owner; nothing was written.
            UsageError: The batch names what is no job of the shard; nothing was written.
        """
        await self._write(lambda file: file.apply(claim, batch))

    async def release(self, claim: Claim) -> None:
        """Give a shard back before its lease is over; nothing happens where it is lost already."""
        await self._write(lambda file: file.release(claim))

    async def outputs(self, cursor: str = "", limit: int = 1000, *, wait_s: float = 0.0) -> list[Output]:
        """What came after a cursor, in the order of the stream."""
        after = int(cursor or 0)
        found = await self._read(lambda file: file.outputs(after, limit))
        if found or wait_s <= 0:
            return found

        def look(file: ShardFile) -> tuple[bool, list[Output]]:
            more = file.outputs(after, limit)
            return bool(more), more

        return await self._wait(look, wait_s)

    async def progress(self) -> ShardProgress:
        """The run at this moment."""
        return await self._read(ShardFile.progress)

    # -- what processes share besides the jobs -----------------------------------------------------------------

    async def share(self, resource: str, owner: str, *, held: int, want: int, total: int) -> int:
        """Lease a share of something bounded; returns how much may be used until the lease is over."""
        what, who = encoded(resource), encoded(owner)
        return await self._write(lambda file: file.shared.share(what, who, held=held, want=want, total=total))

    async def find_answer(self, key: str) -> bytes | None:
        """What an equal call came to, in any process; None where none has ended."""
        return await self._read(lambda file: file.shared.answer(encoded(key))[1])

    async def begin_answer(self, key: str, owner: str) -> bool:
        """Whether this process is to make the call; then others wait until it has ended or the store is closed."""
        call = encoded(key), encoded(owner)

        def begin(file: ShardFile) -> bool:
            begun = file.shared.begin(*call)
            if begun:
                self._thread.calls.update([call])
            return begun

        return await self._write(begin)

    async def end_answer(self, key: str, owner: str, payload: bytes | None, *, ttl_s: float | None = None) -> None:
        """What the call came to, for all who wait; None where it failed."""
        kept, who = encoded(key), encoded(owner)

        def end(file: ShardFile) -> None:
            file.shared.end(kept, who, payload, ttl_s)
            if self._thread.calls.get(kept) == who:
                del self._thread.calls[kept]

        await self._write(end)

    async def await_answer(self, key: str, wait_s: float) -> bytes | None:
        """Wait for the end of a call that another process makes; None where none came in time, or nobody makes it."""
        kept = encoded(key)

        def look(file: ShardFile) -> tuple[bool, bytes | None]:
            is_made, payload = file.shared.answer(kept)
            return not is_made, payload

        return await self._wait(look, wait_s)

    async def aclose(self) -> None:
        """Do what is pending and let go of the file; may be called twice.

        When cancelled, the closing goes on and is done soon after.
        """
        if not self._closing:
            self._closing = True
            self._thread.close()
        await asyncio.shield(self._thread.ended)

    # -- the thread --------------------------------------------------------------------------------------------

    async def _read(self, do: Callable[[ShardFile], _T]) -> _T:
        done: _T = await self._ask(Request(self._future(), do, writes=False))
        return done

    async def _write(self, do: Callable[[ShardFile], _T]) -> _T:
        if self._thread.failure is not None:
            raise copy.copy(self._thread.failure)
        done: _T = await self._ask(Request(self._future(), do, writes=True))
        return done

    async def _wait(self, look: Callable[[ShardFile], tuple[bool, _T]], wait_s: float) -> _T:
        seen: _T = await self._ask(Wait(self._future(), look, now() + wait_s))
        return seen

    async def _ask(self, request: Request | Wait) -> Any:
        self._thread.ask(request)
        return await request.future

    def _future(self) -> asyncio.Future[Any]:
        if self._closing:
            raise StorageError("the store is closed", path=str(self._path), remedy="open it again")
        return asyncio.get_running_loop().create_future()


def _admitting(jobs: Sequence[Job]) -> Callable[[ShardFile], int]:
    return lambda file: file.admit(jobs)
