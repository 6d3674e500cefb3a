"""V7: what does asking a second server cost and save, where one request in a hundred takes a hundred times longer?

The same dispatcher runs with and without rivals for late requests, on the same servers.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence

import harness
from aurora_swarm.dispatch.dispatcher import HEDGE, Dispatcher, Limits
from aurora_swarm.testing.fleet import Fault, ServerPlan, fleet_process
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.policy import HedgePolicy

ENDPOINTS = 64
CAPACITY = 16
CONCURRENCY = 256
LATENCY_S = 0.1
STRAGGLERS, STRAGGLE = 0.01, 100.0
PERCENTILES = (0.5, 0.99, 0.999)

OPTIONS = harness.arguments(__doc__)
PROMPTS = 10_000 if OPTIONS.quick else 20_000
ROUNDS = 1 if OPTIONS.quick else 3


class Run:
    """One way to ask, and what its latest run has found.

    Args:
        endpoints: The servers.
        hedge: When a late request gets a rival; None for never.
    """

    def __init__(self, endpoints: Sequence[AgentEndpoint], hedge: HedgePolicy | None) -> None:
        self._endpoints = endpoints
        self._hedge = hedge
        self.latencies: list[float] = []
        self.extra = 0.0
        self.seconds = 0.0

    async def __call__(self) -> float:
        """Ask everything; the latency that one in a thousand calls exceeds."""
        self.latencies = []
        transport = open_transport("generate", max_connections=2 * CONCURRENCY)
        dispatcher = Dispatcher(
            self._endpoints,
            transport,
            limits=Limits(concurrency=CONCURRENCY, attempt_timeout_s=60.0),
            hedge=self._hedge,
        )
        began = time.perf_counter()
        try:
            work = iter(range(PROMPTS))
            await asyncio.gather(*(self._crew(dispatcher, work) for _ in range(CONCURRENCY)))
            self.seconds = time.perf_counter() - began
            seen = dispatcher.statistics(())
            self.extra = (seen.attempts - seen.calls) / seen.calls
        finally:
            await dispatcher.aclose()
            await transport.aclose()
        return self.percentile(0.999)

    async def _crew(self, dispatcher: Dispatcher, work: Iterator[int]) -> None:
        view = dispatcher.view(range(len(self._endpoints)))
        for number in work:
            outcome = await dispatcher.ask(Call(messages=(Message("user", f"Question {number}"),)), view)
            if outcome.error is not None:
                sys.exit(f"a call failed: {outcome.error}")
            self.latencies.append(outcome.latency_s)

    def percentile(self, share: float) -> float:
        """The latency below which this share of the calls lies."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


async def measure() -> harness.Report:
    """With and without rivals, in turn."""
    report = harness.Report(
        "v7_hedging",
        "V7",
        "What does hedging cost and save, where one request in a hundred takes a hundred times longer?",
        f"{PROMPTS:,} calls, {CONCURRENCY} at a time, over {ENDPOINTS} simulated servers that take "
        f"{1000 * LATENCY_S:g} ms, and {STRAGGLE:g} times that for {STRAGGLERS:.0%} of the requests, drawn by chance. "
        f"Client and fleet on one core each; medians of {ROUNDS} interleaved rounds.",
        ("dispatcher", "p50 [s]", "p99 [s]", "p99.9 [s]", "all [s]", "extra requests"),
    )
    plan = ServerPlan(engine="generate", capacity=CAPACITY, latency_s=LATENCY_S, tokens=1)
    straggle = Fault("straggle", rate=STRAGGLERS, factor=STRAGGLE)
    with fleet_process([plan] * ENDPOINTS, faults=[straggle], cpu=harness.SERVER_CORE) as fleet:
        runs = {"hedged": Run(fleet.endpoints, HEDGE), "not hedged": Run(fleet.endpoints, None)}
        tails = await harness.interleaved(runs, ROUNDS)
    for name, run in runs.items():
        report.row(name, *map(run.percentile, PERCENTILES), run.seconds, f"{run.extra:.2%}")
    report.goal("p99.9 without hedging against p99.9 with it", tails.ratio("not hedged", "hedged"), at_least=10)
    report.goal("extra requests with hedging, in percent of the calls", 100 * runs["hedged"].extra, at_most=2)
    report.notes.append("The table is of the last round.")
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
