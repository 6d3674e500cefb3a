"""What many processes share of one run: jobs in fixed shards, who owns a shard, and what was done there."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec


def shard_of(key: str, shards: int) -> int:
    """The shard that a job belongs to, for as long as the run exists.

    Args:
        key: The job's.
        shards: How many there are.
    """
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % shards


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of a run must agree on; written once, when the run is made.

    Args:
        run: The run's id; part of every name in the store.
        shards: Fixed virtual shards, 1 to 4,096.
        spec: What is to be done, encoded by who made the run; opaque to the store.
        digest: Of what determines the answers: a run is continued under an equal one only.
        max_attempts: How often a job may be begun that never comes to an end.
        lease_s: Seconds for which an owner keeps a shard that it does not renew.
    """

    run: str
    shards: int = 64
    spec: bytes = b""
    digest: str = ""
    max_attempts: int = 3
    lease_s: float = 2.0


class Job(msgspec.Struct, frozen=True):
    """One input as it is kept until it has a result.

    Args:
        key: Content key; unique in the run.
        index: Position of the input.
        payload: The input, encoded; opaque to the store.
    """

    key: str
    index: int
    payload: bytes


class Turn(msgspec.Struct, frozen=True):
    """One thing that an agent heard; the first write of a job's version wins.

    Args:
        job: Key of its job.
        version: Its place in the conversation: 0, 1, 2 ...
        payload: Encoded; opaque to the store.
    """

    job: str
    version: int
    payload: bytes


class Result(msgspec.Struct, frozen=True):
    """How a job ended; the first write wins, and ends the job.

    Args:
        job: Its key.
        payload: Encoded; opaque to the store.
    """

    job: str
    payload: bytes


class Unfinished(msgspec.Struct, frozen=True):
    """A job that has no result.

    Args:
        job: What is to be done.
        turns: What its agent heard so far, version by version, without a gap.
        attempts: How often it was begun by an owner that lost the shard before it ended.
    """

    job: Job
    turns: tuple[bytes, ...] = ()
    attempts: int = 0


class Claim(msgspec.Struct, frozen=True):
    """The right to work on a shard, until the lease is over or another one claims it.

    Args:
        shard: Which.
        epoch: Grows with every claim of the shard; whoever has an older one is refused.
        owner: Who has it, in words: host, process.
    """

    shard: int
    epoch: int
    owner: str


class Batch(msgspec.Struct, frozen=True):
    """What an owner writes at a time: all of it or nothing.

    Args:
        begun: Keys of jobs that are begun now; counted as attempts until they have a result.
        turns: What agents heard. The last turn of a conversation is in its result.
        results: How jobs ended.
    """

    begun: Sequence[str] = ()
    turns: Sequence[Turn] = ()
    results: Sequence[Result] = ()


class Output(msgspec.Struct, frozen=True):
    """One entry of the append-only stream of new results.

    Args:
        cursor: Where reading goes on behind it.
        index: Position of the input.
        result: How it ended.
    """

    cursor: str
    index: int
    result: Result


class ShardProgress(msgspec.Struct, frozen=True):
    """A run at one moment, over all processes.

    Args:
        admitted: Jobs that were put in.
        finished: Jobs that have a result.
        whole: Whether all jobs have been put in.
        owned: Shards with a running lease, by owner.
    """

    admitted: int
    finished: int
    whole: bool
    owned: dict[str, int] = {}
