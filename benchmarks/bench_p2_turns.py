"""P2: what do two turns with a slow tool between them cost beyond the model's and the tool's own time?

A model that takes 60 ms, a tool that takes 200 ms, 200 and 5,000 agents on one core; with and without 2 % of the calls
failing.
"""

from __future__ import annotations

import asyncio
import sys
import time

import harness
from aurora_swarm import BatchAgent, Tool
from aurora_swarm.agents.turns import Ask, converse
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.testing.fleet import Fault, ServerPlan, fleet_process
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Reply
from bare_client import BareClient

MODEL_S, TOOL_S, FAILING = 0.06, 0.2, 0.02
ENDPOINTS, SLOTS = 16, 512
FEW, MANY = 200, 5_000
TURNS = ('{"tool": "look_up", "arguments": {"name": "{prompt}"}}', '{"answer": "done"}')
PLAN = ServerPlan(capacity=SLOTS, latency_s=MODEL_S, tokens=1, turns=TURNS, cache_blocks=0)

OPTIONS = harness.arguments(__doc__)
ROUNDS = 2 if OPTIONS.quick else 5


class Lookups:
    """A tool that waits, and counts how often it ran and for which arguments."""

    def __init__(self) -> None:
        self.executed = 0
        self.names: set[str] = set()
        self.tool = Tool.define(effect="pure")(self.look_up)

    async def look_up(self, name: str) -> str:
        """Look a name up.

        Args:
            name: What to look up.
        """
        self.executed += 1
        self.names.add(name)
        await asyncio.sleep(TOOL_S)
        return f"all about {name}"


async def once(endpoints: list[AgentEndpoint], size: int) -> float:
    """Seconds of one batch."""
    lookups = Lookups()
    began = time.perf_counter()
    results = await BatchAgent.run(
        task="Item {number}",
        inputs=[{"number": number} for number in range(size)],
        tools=[lookups.tool],
        model="simulated",
        backend=endpoints,
        max_inflight=size,
        max_turns=2,
    )
    took = time.perf_counter() - began
    if failed := [result.error for result in results if not result.ok]:
        sys.exit(f"{len(failed)} of {size} agents failed: {failed[0]}")
    if lookups.executed != len(lookups.names) or lookups.executed != size:
        sys.exit(f"{lookups.executed} executions of {len(lookups.names)} unique calls by {size} agents")
    return took


def ideal_s(size: int, per_second: float, *, failing: bool) -> float:
    """The least possible: two turns and the tool, once more the model where a call is retried, or the client's rate."""
    alone = 2 * MODEL_S + TOOL_S + failing * MODEL_S
    return max(alone, 2 * size * (1 + FAILING * failing) / per_second)


async def measure() -> harness.Report:
    """All sizes, with and without failures."""
    report = harness.Report(
        "p2_turns",
        "P2",
        "What do two turns with a slow tool between them cost beyond the model's and the tool's own time?",
        f"Each agent asks a model that takes {MODEL_S:g} s, calls a tool that takes {TOOL_S:g} s with an argument of "
        f"its own, and asks once more; {ENDPOINTS} simulated servers, all agents at once. Client and fleet on one core "
        f"each; median of {ROUNDS} interleaved rounds. Ideal: the sum, one turn more where {FAILING:.0%} of the calls "
        "fail, or the requests at the rate of the bare client, which sends them in turn with each batch and meets no "
        "failures.",
        ("agents", "ideal [s]", "BatchAgent.run [s]", "of the ideal"),
    )
    for failing in (False, True):
        faults = [Fault("status", status=500, rate=FAILING)] if failing else []
        with (
            fleet_process([PLAN] * ENDPOINTS, cpu=harness.SERVER_CORE) as well,
            fleet_process([PLAN] * ENDPOINTS, faults=faults, cpu=harness.SERVER_CORE) as fleet,
        ):
            for size in (FEW, MANY):
                await compare(report, list(well.endpoints), list(fleet.endpoints), size, failing=failing)
    report.notes.append("Every tool call ran once: the benchmark fails otherwise.")
    return report


def recorded_bodies() -> dict[str, bytes]:
    """The first and the second request of an agent, up to the item's number."""
    spec = BatchSpec(task="Item {number}", tools=(Lookups().tool,), max_turns=2)
    task = TaskCompiler(spec, "simulated").compile(0, {"number": "@"}).task
    turns = converse(task.rules, task.messages)
    first = next(turns)
    assert isinstance(first, Ask)
    turns.send(Reply('{"tool": "look_up", "arguments": {"name": "Item @"}}'))
    second = turns.send(["all about Item @"])
    assert isinstance(second, Ask)
    wire = OpenAIChatWire()
    calls = [Call(ask.messages, schema=ask.schema) for ask in (first, second)]
    return {name: wire.encode(call, "simulated") for name, call in zip(("first", "second"), calls, strict=True)}


async def bare(endpoints: list[AgentEndpoint]) -> float:
    """Seconds in which the bare client sends what 5,000 agents send; it opens its connections anew, as a batch does."""
    bodies = recorded_bodies()

    def body(prompt: str) -> bytes:
        turn, number = prompt.split()
        return bodies[turn].replace(b"@", number.encode())

    prompts = [f"{turn} {number}" for turn in bodies for number in range(MANY)]
    return await BareClient(endpoints, "/v1/chat/completions", body, MANY).run(prompts)


async def compare(
    report: harness.Report, well: list[AgentEndpoint], fleet: list[AgentEndpoint], size: int, *, failing: bool
) -> None:
    """One size on one fleet, and the bare client on one that is well."""
    name = f"{size:,}" + (f", {FAILING:.0%} of the calls fail" if failing else "")
    took = await harness.interleaved({"bare client": lambda: bare(well), "batch": lambda: once(fleet, size)}, ROUNDS)
    ideal = ideal_s(size, 2 * MANY / took["bare client"], failing=failing)
    ratio = took["batch"] / ideal
    report.row(name, ideal, took["batch"], ratio)
    report.goal(f"{name} agents: wall against the ideal", ratio, at_most=1.4 if size == MANY else 1.1)


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
