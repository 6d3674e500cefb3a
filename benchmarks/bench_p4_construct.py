"""P4: what does a pool of 4,096 endpoints cost to make, and does placing a call depend on the fleet's size?"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import harness
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import Reply

LARGE, SMALL = 4_096, 64
IN_FLIGHT = (512, 4_096)

OPTIONS = harness.arguments(__doc__)
CALLS = 10_000 if OPTIONS.quick else 40_000
ROUNDS = 3 if OPTIONS.quick else 9
STARTS = 3 if OPTIONS.quick else 9

RESIDENT = """
def resident_mb():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() / 1e6
"""
BARE = f"import resource\n{RESIDENT}\nprint(resident_mb())"
CONSTRUCT = f"""
import resource, time
{RESIDENT}
from aurora_swarm import AgentEndpoint, AgentPool
imported = resident_mb()
began = time.perf_counter()
endpoints = [AgentEndpoint("10.0.%d.%d" % divmod(i, 256), 8000, {{"index": str(i)}}) for i in range({LARGE})]
named = time.perf_counter()
pool = AgentPool(endpoints, concurrency={LARGE}, connector_limit={LARGE})
made = time.perf_counter()
import json
print(json.dumps([imported, resident_mb(), (named - began) * 1e3, (made - named) * 1e3]))
"""


def in_a_child(program: str) -> list[float]:
    """What a fresh interpreter prints, as numbers."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return told if isinstance(told, list) else [told]


def medians(program: str) -> list[float]:
    """The median of each number over some fresh interpreters."""
    return [statistics.median(column) for column in zip(*(in_a_child(program) for _ in range(STARTS)), strict=True)]


class Memory(ScriptedTransport):
    """Answers from memory, each call after one to seven turns of the loop, so that loads differ."""

    def __init__(self) -> None:
        super().__init__(lambda _call, _endpoint: "")
        self._dice = random.Random(0)
        self._reply = Reply("text")

    async def send(self, endpoint: AgentEndpoint, call: Call, *, timeout_s: float) -> Reply:  # noqa: ARG002 - a seam
        """The same answer to every call."""
        for _ in range(self._dice.randint(1, 7)):
            await asyncio.sleep(0)
        return self._reply


async def transport_alone(prompts: Sequence[str], width: int) -> float:
    """Microseconds per call of the transport and of a crew that drives it."""
    transport, endpoint, work = Memory(), AgentEndpoint("10.0.0.1"), iter(prompts)

    async def crew() -> None:
        for prompt in work:
            await transport.send(endpoint, Call((Message("user", prompt),)), timeout_s=60)

    began = time.perf_counter()
    await asyncio.gather(*(crew() for _ in range(width)))
    return (time.perf_counter() - began) / len(prompts) * 1e6


def memory_pool(endpoints: int, width: int) -> AgentPool:
    """A pool over the in-memory transport."""
    fleet = [AgentEndpoint(f"10.0.{i // 256}.{i % 256}") for i in range(endpoints)]
    return AgentPool(fleet, width, transport=Memory())


async def through_pool(pool: AgentPool, prompts: Sequence[str]) -> float:
    """Microseconds per call of `send_all`."""
    began = time.perf_counter()
    responses = await pool.send_all(prompts)
    took = time.perf_counter() - began
    assert len(responses) == len(prompts)
    assert all(response.success for response in responses)
    return took / len(prompts) * 1e6


async def placements(report: harness.Report, width: int) -> float:
    """Adds the cost of a placement to the report.

    Returns:
        The ratio of the cost at many endpoints to that at few, the transport taken off both.
    """
    prompts = [f"{number}" for number in range(CALLS)]
    async with memory_pool(SMALL, width) as small, memory_pool(LARGE, width) as large:
        first = await through_pool(large, prompts[:LARGE])
        cases = {
            "transport": lambda: transport_alone(prompts, width),
            "small": lambda: through_pool(small, prompts),
            "large": lambda: through_pool(large, prompts),
        }
        took = await harness.interleaved(cases, ROUNDS)
    costs = {"small": took["small"] - took["transport"], "large": took["large"] - took["transport"]}
    report.row(f"placing a call, {SMALL} endpoints, {width:,} in flight", costs["small"], "us")
    report.row(f"placing a call, {LARGE:,} endpoints, {width:,} in flight", costs["large"], "us")
    report.row(f"the same, first call to each of {LARGE:,} endpoints", first - took["transport"], "us")
    return costs["large"] / costs["small"]


async def measure() -> harness.Report:
    """Construction in fresh interpreters, then placement."""
    report = harness.Report(
        "p4_construct",
        "P4",
        f"What does a pool of {LARGE:,} endpoints cost, and does placing a call depend on the fleet's size?",
        f"Construction in {STARTS} fresh interpreters, medians. A placement is what `send_all` adds to a call of an "
        "in-memory transport whose answers take one to seven turns of the loop, on pools that have been at work "
        f"({CALLS:,} calls, median of {ROUNDS} interleaved rounds).",
        ("what", "value", "unit"),
    )
    bare, (imported, made, naming_ms, making_ms) = medians(BARE)[0], medians(CONSTRUCT)
    report.row("resident memory: bare interpreter", bare, "MB")
    report.row("resident memory: aurora_swarm imported", imported, "MB")
    report.row(f"resident memory: with a pool of {LARGE:,} endpoints", made, "MB")
    report.row(f"making {LARGE:,} AgentEndpoint values", naming_ms, "ms")
    report.row(f"AgentPool of {LARGE:,} endpoints", making_ms, "ms")
    ratio = max([await placements(report, width) for width in IN_FLIGHT])
    report.goal(f"constructing AgentPool with {LARGE:,} endpoints", making_ms, at_most=50, unit="ms")
    report.goal("memory of import, endpoints and pool over the bare interpreter", made - bare, at_most=40, unit="MB")
    report.goal("memory of endpoints and pool over the imported package", made - imported, at_most=40, unit="MB")
    report.goal(f"a placement at {LARGE:,} endpoints against one at {SMALL}", ratio, at_most=1.2)
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
