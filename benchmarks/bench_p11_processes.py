"""P11: where the servers are the limit, what do further orchestrator processes bring?

One process with k calls in flight, then two and more with k each, over one simulated fleet that could take more; with
and without a limit of each endpoint that the processes keep together through a store.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import harness
from aurora_swarm.batch.sharing import EndpointShares
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.testing.fleet import RemoteFleet, ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.shard import RunPlan

ENDPOINTS, LATENCY_S, IN_FLIGHT, LIMIT = 16, 0.5, 64, 8
RUN = "p11"


def _asker(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--asker", nargs="+", help=argparse.SUPPRESS)


OPTIONS = harness.arguments(__doc__, _asker)
SECONDS = 4.0 if OPTIONS.quick else 8.0
ROUNDS = 1 if OPTIONS.quick else 3


async def ask(store_url: str, owner: str, addresses: Sequence[str]) -> None:
    """One process: asks with `IN_FLIGHT` calls at a time from a common start on, and says how many were answered."""
    endpoints = [AgentEndpoint("127.0.0.1", int(port)) for port in addresses]
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(AgentPool(endpoints, IN_FLIGHT))
        if store_url != "-":
            store = await open_shards(store_url, run=RUN)
            stack.push_async_callback(store.aclose)
            await stack.enter_async_context(EndpointShares(store, pool, owner, LIMIT))
        await pool.send_all([f"warm {number}" for number in range(2 * IN_FLIGHT)])
        said("ready")
        began = time.monotonic() + float(await asyncio.to_thread(sys.stdin.readline))
        answered = 0
        endless = (f"{owner} {number}" for number in range(10**9))
        async for response in pool.stream(endless):
            now = time.monotonic()
            answered += response.success and now >= began
            if now >= began + SECONDS:
                break
    said(str(answered))


def said(text: str) -> None:
    """Tell the parent."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def answered(fleet: RemoteFleet, processes: int, store_url: str) -> float:
    """Answers per second of so many processes together."""
    ports = [str(endpoint.port) for endpoint in fleet.endpoints]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        children = []
        for number in range(processes):
            command = [sys.executable, __file__, "--asker", store_url, f"p{number}", *ports]
            command += ["--quick"] if OPTIONS.quick else []
            child = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            children.append(stack.enter_context(child))
            stack.callback(child.kill)
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "ready"
        for child in children:
            assert child.stdin is not None
            child.stdin.write("1.0\n")
            child.stdin.flush()
        return sum(int(child.stdout.readline()) for child in children if child.stdout) / SECONDS


def store(folder: str) -> str:
    """A run in a file whose processes keep the limits together."""
    url = f"sqlite://{Path(folder) / 'run.sqlite'}"

    async def make() -> None:
        await (await open_shards(url, RunPlan(run=RUN))).aclose()

    asyncio.run(make())
    return url


def measure() -> harness.Report:
    """One process and several, interleaved."""
    report = harness.Report(
        "p11_processes",
        "P11",
        "Where the servers are the limit, what do further orchestrator processes bring?",
        f"{ENDPOINTS} simulated servers whose answers take {LATENCY_S:g} s; each process has {IN_FLIGHT} calls in "
        f"flight for {SECONDS:g} s after a warm start; median of {ROUNDS} interleaved rounds. Kept together: a limit "
        f"of {LIMIT} calls per server, {ENDPOINTS * LIMIT} in all, through a store in a file.",
        ("processes", "limit kept together", "answers/s", "most in flight on a server"),
    )
    rates: dict[tuple[int, bool], list[float]] = {}
    most: dict[tuple[int, bool], int] = {}
    for _ in range(ROUNDS):
        for processes, together in ((1, False), (2, False), (2, True), (4, True)):
            with fleet_process([ServerPlan(latency_s=LATENCY_S, capacity=1_000)] * ENDPOINTS) as fleet:
                with tempfile.TemporaryDirectory() as folder:
                    rate = answered(fleet, processes, store(folder) if together else "-")
                rates.setdefault((processes, together), []).append(rate)
                seen = fleet.counts().most_running
                most[processes, together] = max(seen, most.get((processes, together), 0))
    median = {case: statistics.median(found) for case, found in rates.items()}
    for case, rate in median.items():
        report.row(case[0], "yes" if case[1] else "no", rate, most[case])
    report.goal("two processes, in units of one", median[2, False] / median[1, False], at_least=1.9)
    report.goal("two processes that keep a limit together", median[2, True] / median[1, False], at_least=1.9)
    report.goal("most calls on a server from four processes", float(most[4, True]), at_most=float(LIMIT))
    full = ENDPOINTS * LIMIT / LATENCY_S
    report.goal("four processes, of what the limit allows", median[4, True] / full, at_least=0.9)
    return report


def main() -> None:
    """Measure, or be one of the processes."""
    if OPTIONS.asker:
        url, owner, *ports = OPTIONS.asker
        asyncio.run(ask(url, owner, ports))
    else:
        harness.publish(measure(), quick=OPTIONS.quick)


if __name__ == "__main__":
    main()
