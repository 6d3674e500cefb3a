"""P3: what do 4,000 calls in flight over 1,024 endpoints cost beyond the servers' own time?"""

from __future__ import annotations

import sys
import time

import harness
import peers
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint
from bare_client import BareClient, generate_body

ENDPOINTS = 1_024
IN_FLIGHT = 4_000
LATENCY_S = 0.5

OPTIONS = harness.arguments(__doc__)
PROMPTS = 8_000 if OPTIONS.quick else 20_000
ROUNDS = 1 if OPTIONS.quick else 5
IDEAL_S = LATENCY_S * -(-PROMPTS // IN_FLIGHT)


async def pool_once(endpoints: list[AgentEndpoint], prompts: list[str]) -> float:
    """Seconds of `send_all` with a fresh pool, its connections included."""
    async with AgentPool(endpoints, concurrency=IN_FLIGHT, connector_limit=4_096) as pool:
        began = time.perf_counter()
        responses = await pool.send_all(prompts)
        took = time.perf_counter() - began
    if failed := [response.error for response in responses if not response.success]:
        sys.exit(f"send_all: {len(failed)} calls failed: {failed[0]}")
    return took


async def bare_once(endpoints: list[AgentEndpoint], prompts: list[str]) -> float:
    """Seconds of a fresh bare client."""
    client = BareClient(endpoints, "/generate", generate_body, IN_FLIGHT)
    took = await client.run(prompts)
    if client.failed:
        sys.exit(f"the bare client: {client.failed} requests failed")
    return took


async def measure() -> harness.Report:
    """Bare client, pool and aiohttp on one fleet."""
    report = harness.Report(
        "p3_in_flight",
        "P3",
        f"What do {IN_FLIGHT:,} calls in flight over {ENDPOINTS:,} endpoints cost beyond the servers' own time?",
        f"{PROMPTS:,} prompts, {LATENCY_S} s each on a simulated fleet: ideally {IDEAL_S:g} s. Client and fleet on one "
        f"core each; every run opens its own connections; median of {ROUNDS} interleaved rounds.",
        ("client", "seconds", "of the ideal"),
    )
    prompts = [f"Question {number}" for number in range(PROMPTS)]
    plan = ServerPlan(engine="generate", capacity=64, latency_s=LATENCY_S, tokens=1)
    with fleet_process([plan] * ENDPOINTS, cpu=harness.SERVER_CORE) as fleet:
        endpoints = list(fleet.endpoints)
        cases = {
            "bare client": lambda: bare_once(endpoints, prompts),
            "AgentPool.send_all": lambda: pool_once(endpoints, prompts),
        }
        took = await harness.interleaved(cases, ROUNDS)
        aiohttp = peers.seconds("aiohttp", endpoints, PROMPTS, IN_FLIGHT, wire="generate")
    report.row("ideal", IDEAL_S, 1.0)
    for name, seconds in [*took.items(), ("aiohttp", aiohttp)]:
        report.row(name, seconds, seconds / IDEAL_S)
    report.goal("AgentPool.send_all against the ideal", took["AgentPool.send_all"] / IDEAL_S, at_most=1.25)
    report.goal("AgentPool.send_all against the bare client", took.ratio("AgentPool.send_all", "bare client"))
    report.notes.append("aiohttp reports the better of two rounds, the second on connections that are open already.")
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
