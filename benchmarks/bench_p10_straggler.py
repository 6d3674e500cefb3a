"""P10: what does one server that is ten times slower cost each pattern?

Every pattern runs on an even fleet and on one with a straggler; beside it the same work in lock-step: round robin, and
no step before the last answer of the one before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import harness
from aurora_swarm.patterns.blackboard import Blackboard
from aurora_swarm.patterns.broadcast import broadcast
from aurora_swarm.patterns.debate import debate
from aurora_swarm.patterns.pipeline import Stage, stream_pipeline
from aurora_swarm.patterns.scatter_gather import scatter_gather
from aurora_swarm.patterns.tree_reduce import tree_reduce
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.pools.pool import Pool
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint
from bare_client import RoundRobin

ENDPOINTS, SLOTS, SLOWER = 64, 8, 10.0
STRAGGLER = 7
QUORUM = 0.9

OPTIONS = harness.arguments(__doc__)
ROUNDS = 1 if OPTIONS.quick else 3

PROMPTS, ITEMS, FANIN, FLOWING, AGENTS, TIMES = 2_000, 1_000, 10, 512, 64, 4
PLAN = ServerPlan(engine="generate", capacity=SLOTS, latency_s=0.3, per_token_s=0.01, tokens=20, spread="uniform")
STAGES = [Stage("draft", "Draft: {input}"), Stage("check", "Check: {input}"), Stage("final", "Finish: {input}")]


async def scattered(pool: Pool) -> int:
    """Answers missing of a scatter-gather."""
    return (await scatter_gather(pool, [f"Question {n}" for n in range(PROMPTS)])).n_failed


async def reduced(pool: Pool) -> int:
    """Answers missing of a tree-reduce."""
    items = [f"item {n}" for n in range(ITEMS)]
    result = await tree_reduce(pool, "Answer {item}", "Merge:\n{responses}", fanin=FANIN, items=items)
    return result.n_failed + (not result.success)


async def piped(pool: Pool) -> int:
    """Items that failed in a pipeline."""
    items = [f"item {n}" for n in range(FLOWING)]
    return sum([not flowed.ok async for flowed in stream_pipeline(pool, STAGES, items)])


async def told(pool: Pool) -> int:
    """Answers missing of a broadcast, beyond those that its quorum leaves out."""
    return max(0, (await broadcast(pool, "Who?", quorum=QUORUM)).n_failed - int(ENDPOINTS * (1 - QUORUM)))


async def debated(pool: Pool) -> int:
    """Answers missing of a debate."""
    return sum(each.n_failed for each in (await debate(pool, "Yes or no?", AGENTS, TIMES)).rounds)


async def boarded(pool: Pool) -> int:
    """Rounds missing of a blackboard with a quorum."""
    board = Blackboard(["note"], lambda role, board: f"{board}\nAdd a {role}.", board_tokens=200, quorum=QUORUM)
    return TIMES - (await board.run(pool, TIMES)).rounds


def levels(count: int) -> list[int]:
    """Calls of each level of a tree."""
    found = [count]
    while found[-1] > 1:
        found.append(-(-found[-1] // FANIN))
    return found


PATTERNS: dict[str, tuple[Callable[[Pool], Awaitable[int]], Sequence[int]]] = {
    "scatter-gather": (scattered, [PROMPTS]),
    "tree-reduce": (reduced, levels(ITEMS)),
    "pipeline": (piped, [FLOWING] * len(STAGES)),
    f"broadcast, quorum {QUORUM:.0%}": (told, [ENDPOINTS]),
    "debate": (debated, [AGENTS] * TIMES),
    f"blackboard, quorum {QUORUM:.0%}": (boarded, [ENDPOINTS] * TIMES),
}
"""Each pattern, and the steps that the same work has in lock-step."""


async def once(endpoints: Sequence[AgentEndpoint], run: Callable[[Pool], Awaitable[int]]) -> float:
    """Seconds of a pattern on a fresh pool."""
    async with AgentPool(endpoints, ENDPOINTS * SLOTS) as pool:
        began = time.perf_counter()
        missing = await run(pool)
        took = time.perf_counter() - began
    if missing:
        sys.exit(f"{run.__name__}: {missing} are missing")
    return took


async def in_step(endpoints: Sequence[AgentEndpoint], steps: Sequence[int]) -> float:
    """Seconds of the same work in lock-step."""
    client = RoundRobin(endpoints, ENDPOINTS * SLOTS)
    return sum([await client.run([f"Question {n}" for n in range(count)]) for count in steps])


async def measure() -> harness.Report:
    """Every pattern on both fleets."""
    report = harness.Report(
        "p10_straggler",
        "P10",
        "What does one server that is ten times slower cost each pattern?",
        f"{ENDPOINTS} simulated servers of {SLOTS} slots whose answers take 0.31 to 0.69 s, one of them {SLOWER:g} "
        f"times slower; a fresh pool for every run; median of {ROUNDS} interleaved rounds. Lock-step is round robin "
        "with a barrier after every step. Client and fleets on one core each.",
        ("pattern", "even fleet [s]", "with a straggler [s]", "lock-step, even [s]", "lock-step, straggler [s]"),
    )
    slow = [PLAN] * ENDPOINTS
    slow[STRAGGLER] = ServerPlan(**{f: getattr(PLAN, f) for f in PLAN.__struct_fields__} | {"speed": 1 / SLOWER})
    with (
        fleet_process([PLAN] * ENDPOINTS, cpu=harness.SERVER_CORE) as even,
        fleet_process(slow, cpu=harness.SERVER_CORE) as uneven,
    ):
        fleets = {
            "even": [AgentEndpoint(e.host, e.port, {"role": "note"}) for e in even.endpoints],
            "straggler": [AgentEndpoint(e.host, e.port, {"role": "note"}) for e in uneven.endpoints],
        }
        for name, (run, steps) in PATTERNS.items():
            await compare(report, name, fleets, run, steps)
    return report


async def compare(
    report: harness.Report,
    name: str,
    fleets: dict[str, list[AgentEndpoint]],
    run: Callable[[Pool], Awaitable[int]],
    steps: Sequence[int],
) -> None:
    """One pattern."""
    cases: dict[str, Callable[[], Awaitable[float]]] = {}
    for fleet, endpoints in fleets.items():
        cases[fleet] = lambda endpoints=endpoints: once(endpoints, run)
        cases[f"{fleet} in step"] = lambda endpoints=endpoints: in_step(endpoints, steps)
    took = await harness.interleaved(cases, ROUNDS)
    report.row(name, took["even"], took["straggler"], took["even in step"], took["straggler in step"])
    report.goal(f"{name}: wall with a straggler against that without", took.ratio("straggler", "even"), at_most=1.3)
    report.goal(f"{name}: the same in lock-step", took.ratio("straggler in step", "even in step"))


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
