"""What a batch makes per agent goes when the agent does: circles would wait for a collector that seldom looks.

Found by a run of a million whose memory grew: what is old when the collector looks is not looked at again.
"""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

from aurora_swarm import BatchAgent, Tool
from aurora_swarm.testing.fleet import ServerPlan, fleet_process

AGENTS = 200
TURNS = ('{"tool": "look_up", "arguments": {"name": "{prompt}"}}', '{"answer": "done"}')


async def look_up(name: str) -> str:
    """Look a name up.

    Args:
        name: What to look up.
    """
    return f"all about {name}"


def left_in_circles() -> Counter[str]:
    """Types of what only the collector can take away, and how many there are of each."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return Counter(type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def test_agents_leave_nothing_that_only_the_collector_takes_away(tmp_path: Path) -> None:
    tool = Tool.define(effect="idempotent")(look_up)  # answers of pure ones are remembered by the run as a whole
    with fleet_process([ServerPlan(turns=TURNS)] * 2) as fleet:  # in a process of its own, which has its own circles

        async def batch(name: str) -> None:
            results = await BatchAgent.run(
                "Item {number}",
                [{"number": number} for number in range(AGENTS)],
                tools=[tool],
                model="simulated",
                backend=list(fleet.endpoints),
                max_inflight=32,
                max_turns=2,
                journal=tmp_path / name,
            )
            assert all(result.ok and result.turns == 2 for result in results)

        await batch("warm-up")
        gc.collect()
        gc.disable()
        try:
            await batch("journal")
            left = left_in_circles()
        finally:
            gc.enable()
    # Per run there are some hundred of several kinds; per agent there must be none.
    assert left.total() < 3 * AGENTS, left
    assert max(left.values(), default=0) < AGENTS, left
