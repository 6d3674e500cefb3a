"""C2: how many adds and queries a second does the vector store in this process take, both at once, on one core?

A thousand tasks each add a document and then search, over and over, in a store that holds ten thousand documents at the
start and more with every add. With vectors that are there already, with texts that are embedded first, and with a
filter; against the same store used by one task at a time.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import harness
from aurora_swarm.memory.open import open_store
from aurora_swarm.ports.store import Collection, Document

OPTIONS = harness.arguments(__doc__)
ROUNDS = 1 if OPTIONS.quick else 3
ROWS, TASKS, EACH = 10_000, 1_000, 4
ALONE = 200
DIMENSIONS, GROUPS = 256, 8

NUMBERS = itertools.count()
DICE = np.random.default_rng(7)
VECTORS = [tuple(row) for row in DICE.normal(size=(ROWS, DIMENSIONS)).tolist()]


def document(number: int, *, text: bool) -> Document:
    """One to add."""
    words = f"note {number}: agent {number % 97} found file {number * 7} in the folder of reports"
    vector = None if text else VECTORS[number % ROWS]
    return Document(f"n{number}", words, {"group": number % GROUPS}, vector)


async def step(collection: Collection, *, text: bool, filtered: bool) -> None:
    """Add one document and search for it: it must be there."""
    number = next(NUMBERS)
    made = document(number, text=text)
    await collection.upsert([made])
    where = {"group": number % GROUPS} if filtered else None
    found = await collection.query(made.text if made.vector is None else made.vector, 10, where=where)
    if not found or found[0].similarity < 0.999:
        sys.exit(f"document {made.id} was acknowledged, and the next query does not see it")


async def rate(
    folder: Path, *, tasks: int, each: int, text: bool = False, filtered: bool = False, busy: list[float] | None = None
) -> float:
    """Adds per second, and as many queries, by some tasks at once, in a fresh store.

    `busy` takes the same per second of processor time, which other programs on the core do not change.
    """
    async with open_store(f"local://{folder}/{next(NUMBERS)}") as store:
        collection = await store.collection("notes")
        await collection.upsert([document(next(NUMBERS), text=text) for _ in range(ROWS)])

        async def work() -> None:
            for _ in range(each):
                await step(collection, text=text, filtered=filtered)

        began, spent = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work() for _ in range(tasks)))
        if busy is not None:
            busy.append(tasks * each / (time.process_time() - spent))
        return tasks * each / (time.perf_counter() - began)


async def measure() -> harness.Report:
    """All cases."""
    report = harness.Report(
        "c2_memory",
        "C2",
        "How many adds and queries a second does the vector store in this process take, both at once, on one core?",
        f"{TASKS:,} tasks add one document of {DIMENSIONS} numbers and then ask for the 10 nearest, {EACH} times each, "
        f"in a file that holds {ROWS:,} documents at the start and {ROWS + TASKS * EACH:,} at the end. Every add is on "
        f"the disk before it is acknowledged, and every query must find what its task added before. Everything on one "
        f"core; median of {ROUNDS} interleaved rounds.",
        ("what", "adds/s", "queries/s", "of each, per second of processor time"),
    )
    harness.SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=harness.SCRATCH) as name:
        folder = Path(name)
        cases = {
            "vectors": {"tasks": TASKS, "each": EACH},
            "vectors, filtered": {"tasks": TASKS, "each": EACH, "filtered": True},
            "texts, embedded here": {"tasks": TASKS, "each": EACH, "text": True},
            "vectors, one task at a time": {"tasks": 1, "each": ALONE},
        }
        busy: dict[str, list[float]] = {what: [] for what in cases}
        load = os.getloadavg()[0]
        runs = {what: functools.partial(rate, folder, busy=busy[what], **case) for what, case in cases.items()}
        rates = await harness.interleaved(runs, ROUNDS)
    for what, value in rates.items():
        report.row(what, value, value, statistics.median(busy[what][1:]))
    report.goal("adds, and as many queries at the same time", rates["vectors"], at_least=2_000, unit="per second")
    report.goal("the same with a filter", rates["vectors, filtered"], at_least=2_000, unit="per second")
    report.goal("the same with texts", rates["texts, embedded here"], at_least=2_000, unit="per second")
    report.notes.append(f"Before the first round {load:.1f} programs wanted a core; rates a second suffer from that.")
    core = min(statistics.median(busy[what][1:]) for what in list(cases)[:3])
    report.goal("the slowest of these, per second of processor time", core, at_least=2_000, unit="per second")
    report.goal("many tasks against one", rates.ratio("vectors", "vectors, one task at a time"))
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
