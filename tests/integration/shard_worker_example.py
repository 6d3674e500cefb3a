"""A worker that claims shards of a store in a file, and answers every job in three turns."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from aurora_swarm.errors import FencedError, UsageError
from aurora_swarm.journal.sqlite_shards import SqliteShardStore
from aurora_swarm.values.shard import Batch, Claim, Job, Result, RunPlan, Turn, Unfinished

TURNS = 3


def job(number: int) -> Job:
    return Job(f"job-{number}", number, f"payload {number}".encode())


def answer(payload: bytes, turns: list[bytes]) -> bytes:
    return payload + b" | " + b" ".join(turns)


async def make_run(path: str, jobs: int, *, lease_s: float = 1.0) -> SqliteShardStore:
    store = await SqliteShardStore.open(path, "run", RunPlan(run="run", shards=16, lease_s=lease_s))
    await store.admit([job(number) for number in range(jobs)])
    await store.close_admission()
    return store


def expected(number: int) -> bytes:
    return answer(job(number).payload, [b"turn %d" % version for version in range(TURNS)])


async def work(argument: str) -> None:
    """Work on whatever shard is free, `path?seconds` of the argument, until all jobs have results."""
    path, _, pace = argument.rpartition("?")
    store = await SqliteShardStore.open(path, "run")
    owner = f"process {os.getpid()}"
    sys.stderr.write(f"{owner} begins\n")
    try:
        while (progress := await store.progress()).finished < progress.admitted:
            claim = await store.claim_any(owner)
            if claim is None:
                await asyncio.sleep(0.05)
                continue
            try:
                await _own(store, claim, float(pace))
            except FencedError:
                continue
    finally:
        await store.aclose()


async def _own(store: SqliteShardStore, claim: Claim, pace_s: float) -> None:
    while jobs := await store.load(claim, 8):
        await asyncio.gather(*(_agent(store, claim, each, pace_s) for each in jobs))
    await store.release(claim)


async def _agent(store: SqliteShardStore, claim: Claim, unfinished: Unfinished, pace_s: float) -> None:
    key, turns = unfinished.job.key, list(unfinished.turns)
    for version in range(len(turns), TURNS - 1):
        await asyncio.sleep(pace_s)
        turns.append(b"turn %d" % version)
        await store.apply(claim, Batch(begun=[key], turns=[Turn(key, version, turns[-1])]))
    await asyncio.sleep(pace_s)
    turns.append(b"turn %d" % (TURNS - 1))
    await store.apply(claim, Batch(results=[Result(key, answer(unfinished.job.payload, turns))]))


async def refuse(argument: str) -> None:
    raise UsageError(f"no such thing as {argument}", remedy="name another")


async def die(argument: str) -> None:
    """Die twice, counted in a file, then return."""
    lives = Path(argument)
    lives.write_text(lives.read_text() + "x" if lives.exists() else "x")
    if len(lives.read_text()) < 3:
        raise RuntimeError("dead")


def sit(argument: str) -> None:
    """Start a process of its own, say who they are, and wait for ever."""
    child = subprocess.Popen(["sleep", "1000"])
    sys.stdout.write(f"pids {os.getpid()} {child.pid}\n")
    sys.stdout.flush()
    time.sleep(float(argument))


async def tidy(argument: str) -> None:
    """Wait for ever; note in a file that there was time to end in order."""
    sys.stdout.write(f"pids {os.getpid()} 0\n")
    sys.stdout.flush()
    try:
        await asyncio.sleep(1_000)
    finally:
        await asyncio.sleep(0.2)
        Path(argument).write_text("in order")
