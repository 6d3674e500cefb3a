"""P11: how many jobs a second do processes coordinate through a store, where the jobs themselves cost nothing?

Workers claim shards, load their jobs and write each job's beginning and its result as a task of its own; the driver
reads the stream of results. The same over Redis and over SQLite, each with every write on the disk.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import harness
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.testing.redis_server import RedisServer
from aurora_swarm.values.shard import Batch, Claim, Job, Result, RunPlan, Unfinished

SHARDS, WAVE = 64, 500
PAYLOAD = b"x" * 300
GOAL = 5_000.0


async def work(url: str, run: str) -> None:
    """A worker: says that it is there, begins when it hears a line, and ends when all is done."""
    store = await open_shards(url, run=run)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    while True:
        claim = await store.claim_any(f"worker {time.monotonic_ns()}")
        if claim is not None:
            await own(store, claim)
            continue
        progress = await store.progress()
        if progress.finished == progress.admitted:
            break
        await asyncio.sleep(0.02)
    await store.aclose()


async def own(store: ShardStore, claim: Claim) -> None:
    """All jobs of a shard, wave by wave."""

    async def one(unfinished: Unfinished) -> None:
        key = unfinished.job.key
        await store.apply(claim, Batch(begun=[key]))
        await store.apply(claim, Batch(results=[Result(key, unfinished.job.payload)]))

    while wave := await store.load(claim, WAVE):
        await asyncio.gather(*map(one, wave))
    await store.release(claim)


async def once(url: str, run: str, processes: int, jobs: int) -> tuple[float, float]:
    """Jobs per second that are put in, and that are done and read."""
    store = await open_shards(url, RunPlan(run=run, shards=SHARDS, lease_s=10.0))
    began = time.perf_counter()
    for first in range(0, jobs, 1_000):
        await store.admit([Job(f"{run} {n}", n, PAYLOAD) for n in range(first, min(first + 1_000, jobs))])
    await store.close_admission()
    admitted = time.perf_counter() - began
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(url, run)) for _ in range(processes)]
        for each in workers:
            await asyncio.to_thread(pipe(each.stdout).readline)
        began = time.perf_counter()
        for each in workers:
            pipe(each.stdin).write(b"\n")
            pipe(each.stdin).flush()
        indices: set[int] = set()
        cursor, read = "", 0
        while read < jobs:
            for output in await store.outputs(cursor, wait_s=1.0):
                cursor, read = output.cursor, read + 1
                indices.add(output.index)
        took = time.perf_counter() - began
    await store.aclose()
    if len(indices) != jobs or read != jobs:
        sys.exit(f"{jobs} jobs, but {read} results of {len(indices)}")
    return jobs / admitted, jobs / took


def worker(url: str, run: str) -> subprocess.Popen[bytes]:
    """Begin a worker."""
    command = (sys.executable, __file__, "--work", url, run)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def pipe(file: IO[bytes] | None) -> IO[bytes]:
    """It is there."""
    assert file is not None
    return file


def measuring(quick: bool) -> Callable[[], Awaitable[harness.Report]]:
    """What `harness.start` runs."""
    jobs, rounds = (5_000, 1) if quick else (20_000, 3)

    async def measure() -> harness.Report:
        report = harness.Report(
            "p11_coordination",
            "P11",
            "How many jobs a second do processes coordinate through a store, where the jobs cost nothing?",
            f"{jobs:,} jobs of {len(PAYLOAD)} bytes in {SHARDS} shards; each is loaded, begun, and written as a result "
            f"that the driver reads. Redis with appendfsync always, SQLite with synchronous=FULL; best of {rounds}.",
            ("store", "processes", "put in [jobs/s]", "done and read [jobs/s]"),
        )
        harness.unpin()
        harness.SCRATCH.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as name, RedisServer(Path(name)) as server:
            disk = tempfile.TemporaryDirectory(dir=harness.SCRATCH)
            with disk as folder:
                for store, url in (("Redis", server.url), ("SQLite", f"sqlite://{folder}/runs")):
                    for processes in (1, 2):
                        runs = [await once(url, f"{processes}-{n}", processes, jobs) for n in range(rounds)]
                        report.row(store, processes, max(put for put, _ in runs), max(done for _, done in runs))
                    best = max(row[3] for row in report.rows if row[0] == store)
                    report.goal(f"coordination alone through {store}", best, at_least=GOAL, unit="jobs/s")
        return report

    return measure


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        asyncio.run(work(*sys.argv[2:4]))
    else:
        OPTIONS = harness.arguments(__doc__)
        harness.start(measuring(OPTIONS.quick), quick=OPTIONS.quick)
