"""P5: how near to the best possible is the time for a batch on an uneven fleet?

The servers differ fourfold in speed, one in twenty is ten times slower than it should be, one in fifty is dead, and the
client knows none of it.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence

import harness
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.testing.fleet import Fault, ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint
from bare_client import RoundRobin

ENDPOINTS = 384
FASTEST_S, SLOWEST_S = 1.0, 4.0
"""What short answers of language models take."""
QUICK = 0.4
"""The same fleet with answers in so much of the time, where opening 3,072 connections weighs more."""
STRAGGLERS, STRAGGLE, DEAD = 0.05, 10.0, 0.02
SLOTS = 8
CONCURRENCY = ENDPOINTS * SLOTS

OPTIONS = harness.arguments(
    __doc__,
    lambda parser: parser.add_argument(
        "--dead", metavar="KIND", default="refuse", help="how the dead are dead (refuse)"
    ),
)
PROMPTS = 10_000 if OPTIONS.quick else 20_000
ROUNDS = 1 if OPTIONS.quick else 3


def fleet_plans(pace: float, seed: int = 1) -> tuple[list[ServerPlan], dict[int, Fault]]:
    """The servers, and which of them are dead; answers take `pace` times as long."""
    dice = random.Random(seed)
    plans = [
        ServerPlan(
            engine="generate",
            capacity=SLOTS,
            latency_s=pace * dice.uniform(FASTEST_S, SLOWEST_S),
            tokens=1,
        )
        for _ in range(ENDPOINTS)
    ]
    odd = dice.sample(range(ENDPOINTS), round(ENDPOINTS * STRAGGLERS) + round(ENDPOINTS * DEAD))
    dead, slow = odd[: round(ENDPOINTS * DEAD)], odd[round(ENDPOINTS * DEAD) :]
    for index in slow:
        plan = plans[index]
        plans[index] = ServerPlan(
            engine="generate", capacity=plan.capacity, latency_s=plan.latency_s * STRAGGLE, tokens=1
        )
    return plans, {index: Fault(OPTIONS.dead) for index in dead}


def lower_bound_s(plans: Sequence[ServerPlan], count: int) -> float:
    """The least time in which these servers can answer `count` calls, whoever places them.

    Each runs `capacity` calls at a time, so by time T it has answered capacity * floor(T / latency).
    """
    low, high = 0.0, count * max(plan.latency_s for plan in plans)
    while high - low > 1e-4:
        middle = (low + high) / 2
        if sum(plan.capacity * int(middle / plan.latency_s) for plan in plans) >= count:
            high = middle
        else:
            low = middle
    return high


async def pool_once(endpoints: list[AgentEndpoint], prompts: list[str]) -> float:
    """Seconds of `send_all` with a fresh pool."""
    async with AgentPool(endpoints, CONCURRENCY, 2 * CONCURRENCY) as pool:
        began = time.perf_counter()
        responses = await pool.send_all(prompts)
        took = time.perf_counter() - began
    if failed := [response.error for response in responses if not response.success]:
        sys.exit(f"send_all: {len(failed)} calls failed: {failed[0]}")
    return took


async def measure() -> harness.Report:
    """Pool and round robin on one fleet, beside the bound; the pool also on a quicker one."""
    report = harness.Report(
        "p5_makespan",
        "P5",
        "How near to the best possible is the time for a batch on an uneven fleet?",
        f"{PROMPTS:,} prompts over {ENDPOINTS} simulated servers of {SLOTS} slots and {FASTEST_S:g}-{SLOWEST_S:g} s, "
        f"{STRAGGLERS:.0%} of them {STRAGGLE:g} times slower, {DEAD:.0%} dead; up to {CONCURRENCY:,} calls under way. "
        f"Client and fleet on one core each; median of {ROUNDS} runs of the pool, one of round robin. The quick fleet "
        f"answers in {QUICK:g} of the time: there the opening of the connections weighs more.",
        ("client", "seconds", "of the bound"),
    )
    ours = await on_fleet(report, 1.0, in_turn=True)
    quick = await on_fleet(report, QUICK, in_turn=False)
    report.goal("makespan of AgentPool.send_all against the lower bound", ours, at_most=1.10)
    report.goal("the same on the quick fleet", quick)
    report.notes.append("Round robin asks the next server where one fails, at once and without limit.")
    return report


async def on_fleet(report: harness.Report, pace: float, *, in_turn: bool) -> float:
    """One fleet; returns the pool's time in units of the lower bound."""
    plans, faults = fleet_plans(pace)
    name = "" if pace == 1.0 else ", quick fleet"
    bound = lower_bound_s([plan for index, plan in enumerate(plans) if index not in faults], PROMPTS)
    with fleet_process(plans, faults=faults, cpu=harness.SERVER_CORE) as fleet:
        endpoints, prompts = list(fleet.endpoints), [f"Question {number}" for number in range(PROMPTS)]
        took = await harness.interleaved({"AgentPool.send_all": lambda: pool_once(endpoints, prompts)}, ROUNDS)
        ours = took["AgentPool.send_all"]
        report.row(f"lower bound{name}", bound, 1.0)
        report.row(f"AgentPool.send_all{name}", ours, ours / bound)
        if in_turn:
            seconds = await RoundRobin(endpoints, CONCURRENCY).run(prompts)
            report.row("round robin, bare client", seconds, seconds / bound)
            report.goal("makespan of round robin against the lower bound", seconds / bound)
    return ours / bound


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
