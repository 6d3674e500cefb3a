"""What several processes share of one run, in Redis: each batch of a shard is one script.

Jobs and turns are deleted as soon as a job has its result. What stays until `forget` is the result, once, in the
stream of outputs, and the job's key.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from redis.exceptions import RedisError, ResponseError

from aurora_swarm.errors import FencedError, UsageError
from aurora_swarm.journal.redis import scripts
from aurora_swarm.journal.redis.answers import Answers
from aurora_swarm.journal.redis.connecting import connect
from aurora_swarm.journal.redis.following import read_now, read_on
from aurora_swarm.journal.redis.packing import Piece, joined, packed, piece
from aurora_swarm.journal.redis.scripts import Script
from aurora_swarm.journal.redis.writer import Argument, Command, Line
from aurora_swarm.values.shard import (
    Batch,
    Claim,
    Job,
    Output,
    Result,
    RunPlan,
    ShardProgress,
    Unfinished,
    shard_of,
)

_ADMITTED_AT_ONCE = 1_000
_LOADED_AT_ONCE, _LOADED_BYTES = 500, 4_000_000


class RedisShardStore:
    """One run in Redis 6.2 or newer; keeps the contract of `aurora_swarm.ports.shards.ShardStore`. Made by `open`.

    It belongs to the event loop in which it was opened. All that its tasks ask goes over one connection, in order and
    in few round trips; whoever waits for outputs or answers has another one. What was cut off by a lost connection is
    asked again. So a `claim_any` may leave a shard behind that nobody has until its lease is over, and an `apply` may
    have been written although it says that the shard has another owner: that one came between its two tries.

    How much of what was acknowledged survives a crash of Redis itself is up to its ``appendfsync``.

    Args:
        line: To Redis.
        prefix: Of the run's names.
        plan: What stands in the store.
        notes: Sentences for the user: what a crash of Redis would cost.
    """

    def __init__(self, line: Line, prefix: str, plan: RunPlan, notes: tuple[str, ...]) -> None:
        self.plan = plan
        self.notes = notes
        self._line = line
        self._prefix = prefix
        self._lease_ms = max(1, round(1000 * plan.lease_s))
        self._answers = Answers(line, prefix, plan.lease_s)

    @classmethod
    async def open(
        cls, url: str, run: str, plan: RunPlan | None = None, *, patience_s: float = 30.0
    ) -> RedisShardStore:
        """Open a run.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes it.
            run: The run's id.
            plan: Makes the run where there is none yet; where there is one, its own plan stands.
            patience_s: Seconds for which Redis is waited for, each time it cannot be reached.

        Raises:
            UsageError: There is no such run, the server refuses us, is too old, or may forget what it was told.
            StorageError: It could not be reached in time.
        """
        prefix = f"aurora:{{{run}}}:"
        line, notes = await connect(url, scripts.SHARD_SCRIPTS, patience_s)
        try:
            encoded = msgspec.msgpack.encode(plan) if plan is not None else b""
            kept = _found(await line.call(scripts.OPEN, f"{prefix}meta", encoded), line.place, run)
            return cls(line, prefix, kept, notes)
        except BaseException:
            await line.aclose()
            await line.pool.aclose()
            raise

    async def admit(self, jobs: Sequence[Job]) -> int:
        """Put jobs in, 1,000 at a time; those whose key is known are left as they are. Returns how many were new."""
        new = 0
        for first in range(0, len(jobs), _ADMITTED_AT_ONCE):
            wave = jobs[first : first + _ADMITTED_AT_ONCE]
            blob = packed([part for job in wave for part in _job_row(job, self.plan.shards)])
            new += await self._call(scripts.ADMIT, secrets.token_hex(8), blob, weight=len(blob))
        return new

    async def open_admission(self) -> None:
        """Jobs are to come, also where all were in before."""
        await self._call(scripts.REOPEN)

    async def close_admission(self) -> None:
        """All jobs are in."""
        await self._call(scripts.CLOSE)

    async def claim(self, shard: int, owner: str, *, force: bool = False) -> Claim | None:
        """Take a shard; None while another one's lease runs, unless forced (by who knows that the other is dead)."""
        epoch = await self._call(scripts.CLAIM, shard, _encoded(owner), self._lease_ms, int(force))
        return None if epoch is None else Claim(shard, epoch, owner)

    async def claim_any(self, owner: str) -> Claim | None:
        """Take some shard that nobody owns and that has unfinished jobs; None where there is none now."""
        taken = await self._call(scripts.CLAIM_ANY, _encoded(owner), self._lease_ms)
        return None if taken is None else Claim(taken[0], taken[1], owner)

    async def load(self, claim: Claim, limit: int, skip: Sequence[str] = ()) -> list[Unfinished]:
        """Unfinished jobs of a shard with all their turns, in order of admission.

        Raises:
            FencedError: The shard has another owner.
            StorageError: Redis could not be reached in time.
        """
        loaded: list[Unfinished] = []
        skipped = packed([_encoded(key) for key in skip])
        behind = b"0"
        while behind and len(loaded) < limit:
            count = min(limit - len(loaded), _LOADED_AT_ONCE)
            asked: tuple[Argument, ...] = (claim.shard, claim.epoch, behind, count, _LOADED_BYTES, skipped)
            page = await self._call(scripts.LOAD, *asked, weight=len(skipped))
            if page is None:
                raise _fenced(claim)
            behind = page[0]
            loaded += [_unfinished(*row) for row in page[1]]
        return loaded

    async def apply(self, claim: Claim, batch: Batch) -> None:
        """Write a batch, all of it or nothing, and renew the lease. What many tasks write to a shard is one script.

        Raises:
            FencedError: The shard has another owner, or the lease was over and another one had it meanwhile.
            StorageError: Redis could not be reached in time, or refused it; it may have been written.
            UsageError: A job is not of that shard.
        """
        if any(shard_of(key, self.plan.shards) != claim.shard for key in _keys(batch)):
            raise UsageError(f"a job is not of shard {claim.shard}", remedy="write it with the claim of its own shard")

        def encode(parts: list[tuple[Piece, Piece, Piece]]) -> Command:
            called = ("EVALSHA", scripts.APPLY.sha, 1, f"{self._prefix}meta")
            return (*called, claim.shard, claim.epoch, self._lease_ms, _together(parts))

        part = _part(batch)
        if not await self._line.join((claim.shard, claim.epoch), part, sum(len(body) for _, body in part), encode):
            raise _fenced(claim)

    async def release(self, claim: Claim) -> None:
        """Give a shard back before its lease is over; nothing happens where it is lost already."""
        await self._call(scripts.RELEASE, claim.shard, claim.epoch)

    async def outputs(self, cursor: str = "", limit: int = 1000, *, wait_s: float = 0.0) -> list[Output]:
        """What came after a cursor, in the order of the stream; the same for every reader."""
        stream, behind = f"{self._prefix}out", cursor or "0-0"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        rows = await read_now(self._line, stream, behind, limit)
        while not rows and (left := deadline - loop.time()) > 0:
            try:
                rows = await read_on(self._line, stream, behind, limit=limit, wait_s=left)
            except ResponseError as error:
                raise self._line.refusal(error) from error
            except (RedisError, OSError):
                rows = await read_now(self._line, stream, behind, limit)
            if self._line.closed:
                raise self._line.shut()
        return [_output(id_, fields) for id_, fields in rows]

    async def progress(self) -> ShardProgress:
        """The run at this moment; cheap."""
        admitted, finished, whole, owners = await self._call(scripts.PROGRESS)
        owned = Counter(_decoded(owner) for owner in owners)
        return ShardProgress(admitted=admitted, finished=finished, whole=bool(whole), owned=dict(owned))

    async def share(self, resource: str, owner: str, *, held: int, want: int, total: int) -> int:
        """Lease a share of something bounded, such as the calls that an endpoint takes at a time.

        Where there are more owners than there is to share, who has one changes every four leases.
        """
        asked = (_encoded(resource), _encoded(owner), held, want, total, self._lease_ms)
        granted: int = await self._call(scripts.SHARE, *asked)
        return granted

    async def find_answer(self, key: str) -> bytes | None:
        """What an equal call of a pure tool came to, in any process; None where none has ended."""
        return await self._answers.find(_encoded(key))

    async def begin_answer(self, key: str, owner: str) -> bool:
        """Whether this process is to make the call; its lease is renewed until `end_answer` or `aclose`."""
        return await self._answers.begin(_encoded(key), _encoded(owner))

    async def end_answer(self, key: str, owner: str, payload: bytes | None, *, ttl_s: float | None = None) -> None:
        """What the call came to, for all who wait; None where it failed, so that another process makes it."""
        await self._answers.end(_encoded(key), _encoded(owner), payload, ttl_s)

    async def await_answer(self, key: str, wait_s: float) -> bytes | None:
        """Wait for the end of a call that another process makes; None where none came in time, or it failed."""
        return await self._answers.wait(_encoded(key), wait_s)

    async def forget(self) -> int:
        """Delete the run with all that is kept of it; returns how many names that were. Nobody may be working on it."""
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._prefix) + "*"
        cursor, deleted = b"0", 0
        while True:
            cursor, names = await self._line.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1_000)
            if names:
                deleted += await self._line.ask("UNLINK", *names)
            if cursor == b"0":
                return deleted

    async def aclose(self) -> None:
        """Let be written what was asked, and let go of the store. May be called twice."""
        await self._answers.aclose()
        await self._line.aclose()
        await self._line.pool.aclose()

    async def _call(self, script: Script, *arguments: Argument, weight: int = 0) -> Any:
        return await self._line.call(script, f"{self._prefix}meta", *arguments, weight=weight)


def _found(kept: bytes | None, place: str, run: str) -> RunPlan:
    if kept is None:
        raise UsageError(f"{place} has no run {run!r}", remedy="check the run's id, or begin the run first")
    return msgspec.msgpack.decode(kept, type=RunPlan)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogatepass")


def _job_row(job: Job, shards: int) -> tuple[int, bytes, int, bytes]:
    return shard_of(job.key, shards), _encoded(job.key), job.index, job.payload


def _keys(batch: Batch) -> set[str]:
    turns, results = {turn.job for turn in batch.turns}, {result.job for result in batch.results}
    return {*batch.begun, *turns, *results}


def _part(batch: Batch) -> tuple[Piece, Piece, Piece]:
    turns = (part for turn in batch.turns for part in (_encoded(turn.job), turn.version, turn.payload))
    results = (part for result in batch.results for part in (_encoded(result.job), result.payload))
    return piece(map(_encoded, batch.begun)), piece(turns), piece(results)


def _together(parts: Sequence[tuple[Piece, Piece, Piece]]) -> bytes:
    return joined((1, joined(kind)) for kind in zip(*parts, strict=True))


def _unfinished(key: bytes, value: bytes, attempts: int, turns: Sequence[bytes]) -> Unfinished:
    index, _, payload = value.partition(b":")
    return Unfinished(Job(_decoded(key), int(index), payload), tuple(turns), attempts)


def _output(id_: bytes, fields: Sequence[bytes]) -> Output:
    return Output(id_.decode(), int(fields[3]), Result(_decoded(fields[1]), fields[5]))


def _fenced(claim: Claim) -> FencedError:
    return FencedError(
        f"shard {claim.shard} has another owner by now", remedy="stop working on it: the other one goes on from here"
    )
