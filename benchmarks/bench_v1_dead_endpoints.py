"""V1 and V3: what do dead servers cost, whichever way they are dead, and how soon is one used again?

A fifth of a fleet is dead. The time for a batch is set against the time that the servers that are left need alone.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing

import harness
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.fleet import Fault, RemoteFleet, ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint

ENDPOINTS, DEAD = 100, 20
CAPACITY = 8
LATENCY_S = 0.4
CONCURRENCY = 2 * ENDPOINTS * CAPACITY
TIMEOUT_S = 30.0

WAYS: Mapping[str, Fault] = {
    "refuse": Fault("refuse"),
    "reset": Fault("reset"),
    "hang before the head": Fault("hang_before_head"),
    "hang after the head": Fault("hang_after_head"),
    "drip": Fault("drip"),
    "cut": Fault("cut", at=20),
    "500": Fault("status", status=500),
    "html": Fault("html"),
    "garbage": Fault("garbage"),
    "wrong types": Fault("wrong_types"),
    "error with 200": Fault("error_200"),
    "gray": Fault("gray"),
    "abort": Fault("abort"),
}
LOOK_HEALTHY = frozenset(("gray", "abort"))
"""Ways that only a call finds out: such a server is tried again now and then."""
ALONE = "the others alone"

OPTIONS = harness.arguments(__doc__)
PROMPTS = 5_000 if OPTIONS.quick else 10_000
ROUNDS = 1 if OPTIONS.quick else 3
DOWN_S = 5.0 if OPTIONS.quick else 40.0


class Batch:
    """A batch on a fleet of which a part is dead in one way.

    Args:
        fleet: All servers; the first `DEAD` of them die.
        fault: How; None to leave the dead ones out.
    """

    def __init__(self, fleet: RemoteFleet, fault: Fault | None) -> None:
        self._fleet = fleet
        self._fault = fault
        self.attempts_on_dead: list[int] = []
        self.extra: list[float] = []
        self.failed = 0

    async def __call__(self) -> float:
        """Seconds for the batch with a fresh pool."""
        endpoints: Sequence[AgentEndpoint] = list(self._fleet.endpoints)
        if self._fault is None:
            endpoints = endpoints[DEAD:]
        else:
            self._fleet.set_fault(slice(0, DEAD), self._fault)
        prompts = [f"Question {number}" for number in range(PROMPTS)]
        async with VLLMPool(endpoints, concurrency=CONCURRENCY, timeout=TIMEOUT_S) as pool:
            began = time.perf_counter()
            responses = await pool.send_all(prompts)
            took = time.perf_counter() - began
            seen = pool.statistics()
        self.failed += sum(not response.success for response in responses)
        self.extra.append((seen.attempts - seen.calls) / seen.calls)
        if self._fault is not None:
            self.attempts_on_dead += [endpoint.failed for endpoint in seen.endpoints[:DEAD]]
            self._fleet.set_fault(slice(0, DEAD), None)
        return took


async def rejoin_s(fleet: RemoteFleet) -> tuple[float, int]:
    """Seconds from the return of dead servers to the first answer of the last of them, and how many calls failed."""
    failed = 0
    fleet.stop(slice(0, DEAD))
    async with VLLMPool(fleet.endpoints, concurrency=CONCURRENCY, timeout=TIMEOUT_S) as pool:
        back, returned_at, missing = asyncio.get_running_loop().time() + DOWN_S, 0.0, set(range(DEAD))
        async with aclosing(pool.stream(f"Question {number}" for number in itertools.count())) as responses:
            async for response in responses:
                failed += not response.success
                now = asyncio.get_running_loop().time()
                if not returned_at and now >= back:
                    fleet.start(slice(0, DEAD))
                    returned_at = now
                if response.success:
                    missing.discard(response.agent_index)
                if not missing:
                    return now - returned_at, failed
    raise AssertionError("a stream without end has ended")


async def measure() -> harness.Report:
    """Every way to be dead, then the return."""
    report = harness.Report(
        "v1_dead_endpoints",
        "V1, V3",
        "What do dead servers cost, whichever way they are dead, and how soon is one used again?",
        f"{PROMPTS:,} prompts over {ENDPOINTS} simulated servers of {CAPACITY} slots and {LATENCY_S:g} s, {DEAD} of "
        f"them dead from the start; a pool with default patience, up to {CONCURRENCY:,} calls under way. Client and "
        f"fleet on one core each; medians of {ROUNDS} interleaved rounds.",
        ("the fifth that is dead", "seconds", "of surviving capacity", "extra attempts", "most on one dead server"),
    )
    plan = ServerPlan(capacity=CAPACITY, latency_s=LATENCY_S, tokens=1)
    with fleet_process([plan] * ENDPOINTS, cpu=harness.SERVER_CORE) as fleet:
        batches = {ALONE: Batch(fleet, None), **{way: Batch(fleet, fault) for way, fault in WAYS.items()}}
        took = await harness.interleaved(batches, ROUNDS)
        back_s, failed = await rejoin_s(fleet)
    report.row(ALONE, took[ALONE], 1.0, f"{max(batches[ALONE].extra):.2%}", 0)
    shares: list[float] = []
    for way in WAYS:
        batch = batches[way]
        shares.append(took.ratio(ALONE, way))
        report.row(way, took[way], shares[-1], f"{max(batch.extra):.2%}", max(batch.attempts_on_dead))
    report.goal("calls that failed", failed + sum(batch.failed for batch in batches.values()), at_most=0)
    report.goal("throughput against that of the surviving servers alone, worst way", min(shares), at_least=0.97)
    extra = max(extra for way in WAYS for extra in batches[way].extra)
    report.goal("extra attempts in percent of the calls, worst way", 100 * extra, at_most=5)
    found = max(most for way in WAYS if way not in LOOK_HEALTHY for most in batches[way].attempts_on_dead)
    report.goal("attempts on one dead server, worst way that a probe sees", found, at_most=3)
    report.goal(f"seconds until all {DEAD} were used again, after {DOWN_S:g} s of absence", back_s, at_most=10)
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
