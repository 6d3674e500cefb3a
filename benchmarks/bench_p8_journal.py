"""P8: what does a journal cost that has every turn and every result on the disk before anything follows from it?

Two-turn agents with a tool, on servers that set the pace at 1,000 turns a second, and on servers that answer at once;
with and without a journal, and once more from the journal alone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import harness
from aurora_swarm import BatchAgent, Tool
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint

MODEL_S, SLOTS, ENDPOINTS = 0.064, 64, 16
TURNS = ('{"tool": "look_up", "arguments": {"name": "{prompt}"}}', '{"answer": "done"}')
PACED = ServerPlan(capacity=SLOTS // ENDPOINTS, latency_s=MODEL_S, tokens=1, turns=TURNS, cache_blocks=0)
INSTANT = ServerPlan(capacity=1_024, latency_s=0.0, tokens=1, turns=TURNS, cache_blocks=0)
RECORDS_PER_AGENT = 3

OPTIONS = harness.arguments(__doc__)
ROUNDS = 2 if OPTIONS.quick else 5
AGENTS = 1_000 if OPTIONS.quick else 4_000


@Tool.define(effect="pure")
async def look_up(name: str) -> str:
    """Look a name up.

    Args:
        name: What to look up.
    """
    return f"all about {name}"


async def once(endpoints: Sequence[AgentEndpoint], width: int, journal: Path | None, *, resumed: bool = False) -> float:
    """Turns per second of one batch."""
    began = time.perf_counter()
    results = await BatchAgent.run(
        task="Item {number}",
        inputs=[{"number": number} for number in range(AGENTS)],
        tools=[look_up],
        model="simulated",
        backend=list(endpoints),
        max_inflight=width,
        max_turns=2,
        journal=journal,
    )
    took = time.perf_counter() - began
    if failed := [result.error for result in results if not result.ok]:
        sys.exit(f"{len(failed)} of {AGENTS} agents failed: {failed[0]}")
    if any(result.resumed is not resumed or result.turns != len(TURNS) for result in results):
        sys.exit("not what was to be measured: results of another run, or without a tool")
    return AGENTS * len(TURNS) / took


async def compare(folder: Path, endpoints: Sequence[AgentEndpoint], width: int) -> harness.Rounds:
    """With and without a journal, and from the journal alone."""
    places = iter(range(1_000))
    written = folder / "none"

    async def journalled() -> float:
        nonlocal written
        written = folder / f"{width}-{next(places)}.journal"
        return await once(endpoints, width, written)

    return await harness.interleaved(
        {
            "no journal": lambda: once(endpoints, width, None),
            "journal": journalled,
            "from the journal": lambda: once(endpoints, width, written, resumed=True),
        },
        ROUNDS,
    )


def sync_ms(folder: Path) -> float:
    """Milliseconds that this disk takes to write a page and confirm it."""
    file = os.open(folder / "sync", os.O_RDWR | os.O_CREAT)
    began = time.perf_counter()
    for _ in range(100):
        os.pwrite(file, bytes(4_096), 0)
        os.fsync(file)
    os.close(file)
    return (time.perf_counter() - began) * 10


async def measure() -> harness.Report:
    """Both fleets."""
    report = harness.Report(
        "p8_journal",
        "P8",
        "What does a journal cost that has every turn and every result on the disk before anything follows from it?",
        f"{AGENTS:,} agents ask twice with a tool's call between; {RECORDS_PER_AGENT} records each. The paced fleet "
        f"has {SLOTS} slots of {MODEL_S:g} s, the instant one answers at once. A new file for every run; client and "
        f"journal on one core, fleet on the other; median of {ROUNDS} interleaved rounds.",
        ("fleet", "no journal [turns/s]", "journal [turns/s]", "from the journal [turns/s]"),
    )
    harness.SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=harness.SCRATCH) as name:
        for fleet, plan, width in (("paced", PACED, SLOTS), ("instant", INSTANT, 1_024)):
            with fleet_process([plan] * ENDPOINTS, cpu=harness.SERVER_CORE) as servers:
                rates = await compare(Path(name), list(servers.endpoints), width)
            report.row(fleet, *(rate for _, rate in rates.items()))
            share = rates.ratio("journal", "no journal")
            if fleet == "paced":
                report.goal("throughput with a journal, at the servers' pace", share, at_least=0.9)
            else:
                report.goal("throughput with a journal, as fast as it goes", share)
                report.goal("turns from the journal alone", rates["from the journal"], unit="per second")
        report.notes.append(f"The disk takes {sync_ms(Path(name)):.2g} ms to write a page and confirm it.")
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
