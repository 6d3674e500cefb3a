"""A8: what does putting many prompts in one request save, and what does it cost?

Requests are counted on a simulated fleet whose servers hold 256 sequences; walls are measured on real llama.cpp and,
where it is at hand, on real vLLM.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Sequence

import engines
import harness
from aurora_swarm.patterns.scatter_gather import scatter_gather
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint

SERVERS, HELD, PROMPTS = 16, 256, 10_000
MAX_TOKENS = 16

OPTIONS = harness.arguments(
    __doc__,
    lambda parser: [
        parser.add_argument("--vllm", metavar="DIR", help="a folder with vLLM and a model"),
        parser.add_argument("--no-llamacpp", action="store_true", help="without llama.cpp"),
    ],
)
ROUNDS = 2 if OPTIONS.quick else 8
REAL_PROMPTS = 48 if OPTIONS.quick else 128

GENES = ("TP53", "BRCA1", "EGFR", "KRAS", "MYC", "PTEN", "RB1", "APC")


async def once(endpoints: Sequence[AgentEndpoint], model: str, prompts: Sequence[str], *, batched: bool) -> float:
    """Seconds of a scatter-gather on a fresh pool."""
    async with VLLMPool(
        endpoints, model, MAX_TOKENS, use_batch=batched, concurrency=len(endpoints) * HELD, temperature=0
    ) as pool:
        began = time.perf_counter()
        responses = await scatter_gather(pool, prompts)
        took = time.perf_counter() - began
    if responses.n_failed:
        sys.exit(f"scatter_gather: {responses.n_failed} failed: {responses[responses.missing[0]].error}")
    return took


async def on_simulated(report: harness.Report) -> None:
    """Requests for 10,000 prompts, with and without bundles."""
    plan = ServerPlan(capacity=HELD, latency_s=0.2, per_token_s=0.02, tokens=MAX_TOKENS, batch_slowdown=0.5)
    prompts = [f"Analyze gene {n}" for n in range(PROMPTS)]
    sent: dict[bool, int] = {}
    walls: dict[bool, float] = {}
    for batched in (True, False):
        with fleet_process([plan] * SERVERS, cpu=harness.SERVER_CORE) as fleet:
            walls[batched] = await once(fleet.endpoints, "simulated", prompts, batched=batched)
            sent[batched] = fleet.counts().requests
        name = "bundles" if batched else "one by one"
        report.row(f"simulated, {name}", len(prompts), sent[batched], walls[batched])
    report.goal("simulated servers: prompts per HTTP request", PROMPTS / sent[True], at_least=50)
    report.goal("simulated servers: wall against one by one", walls[True] / walls[False])


async def on_real(report: harness.Report, engine: str, endpoints: list[AgentEndpoint]) -> None:
    """Walls on a real engine, in interleaved rounds, each on new prompts: the same both ways."""
    runs = itertools.count()

    def prompts() -> list[str]:
        number = next(runs) // 2
        return [f"Run {number}. Describe the gene {GENES[n % 8]}, variant {n}." for n in range(REAL_PROMPTS)]

    took = await harness.interleaved(
        {
            "bundles": lambda: once(endpoints, "smollm2-135m", prompts(), batched=True),
            "one by one": lambda: once(endpoints, "smollm2-135m", prompts(), batched=False),
        },
        ROUNDS,
    )
    for name, seconds in took.items():
        report.row(f"{engine}, {name}", REAL_PROMPTS, "-", seconds)
    report.goal(f"{engine}: wall against one by one", took.ratio("bundles", "one by one"), at_most=1.0)


async def measure() -> harness.Report:
    """All engines that are at hand."""
    report = harness.Report(
        "a8_batches",
        "A8",
        "What does putting many prompts in one request save, and what does it cost?",
        f"scatter_gather of {PROMPTS:,} prompts over {SERVERS} simulated servers that hold {HELD} sequences, and of "
        f"{REAL_PROMPTS} prompts over 2 real servers; a fresh pool with its own bundle sizes for every run, median of "
        f"{ROUNDS} interleaved rounds on new prompts, the same both ways. llama.cpp has no such request: there the "
        "pool asks one by one.",
        ("engine, requests", "prompts", "HTTP requests", "seconds"),
    )
    harness.pin(harness.CLIENT_CORE)
    await on_simulated(report)
    harness.unpin()
    if not OPTIONS.no_llamacpp:
        async with engines.llamacpp(2, 8) as endpoints:
            await on_real(report, "llama.cpp, 8 slots", endpoints)
    folder = engines.vllm_folder(OPTIONS.vllm)
    if folder is not None:
        async with engines.vllm(folder, 2) as endpoints:
            await on_real(report, "vLLM", endpoints)
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick, core=None)
