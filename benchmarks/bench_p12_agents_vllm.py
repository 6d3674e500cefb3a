"""P12: what do two-turn agents with a shared file cost on real vLLM, beside a hand-written gather?

200 agents with a system prompt of about 1,000 tokens, all of which read the same file, on one vLLM server; the gather
uses the openai SDK, sends the same prompts, and has as many requests under way.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, Field

import engines
import harness
import peers
from aurora_swarm import BatchAgent, Tool
from aurora_swarm.agents.steps import ConstrainedStep
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.endpoint import AgentEndpoint

MODEL, FILE, MAX_TOKENS = "smollm2-135m", "notes.txt", 40
RULES = "Rule {number}. When a note speaks of a measurement, keep its unit, its sign and its error as they stand. "
NOTES = "The reactor reached 412 K after nine minutes. Valve three leaked and was shut. The yield was 71 percent. " * 4
TASK = "Read the notes and write one sentence about item {number}."

OPTIONS = harness.arguments(
    __doc__, lambda parser: parser.add_argument("--vllm", metavar="DIR", help="a folder with vLLM and a model")
)
AGENTS, WIDTH, ROUNDS = (40, 16, 1) if OPTIONS.quick else (200, 64, 3)
RUNS = itertools.count()


class Sentence(BaseModel):
    """What each agent answers."""

    sentence: str = Field(max_length=80)


def batch_spec(folder: Path) -> BatchSpec:
    """The batch, with a system prompt that no server has seen before."""
    rules = "".join(RULES.format(number=number) for number in range(36))
    return BatchSpec(
        task=TASK,
        system_prompt=f"Run {next(RUNS)}. You are a careful clerk. {rules}",
        tools=(Tool.read_file.beneath(folder).limit(path=[FILE]),),
        output_schema=Sentence,
        tool_choice="required",
        max_turns=2,
        sampling=Sampling(max_tokens=MAX_TOKENS, temperature=0.0),
    )


class Spent(msgspec.Struct):
    """What one run came to; the last of each client is shown."""

    seconds: float
    reads: int
    prompt: int
    cached: int
    valid: int


async def ours(endpoints: Sequence[AgentEndpoint], folder: Path) -> Spent:
    """One batch."""
    spec = batch_spec(folder)
    began = time.perf_counter()
    results = await BatchAgent.run(
        task=spec.task,
        inputs=[{"number": number} for number in range(AGENTS)],
        system_prompt=spec.system_prompt,
        tools=spec.tools,
        output_schema=Sentence,
        model=MODEL,
        backend=list(endpoints),
        max_inflight=WIDTH,
        max_turns=2,
        tool_choice="required",
        max_tokens=MAX_TOKENS,
        temperature=0.0,
    )
    took = time.perf_counter() - began
    return Spent(
        took,
        sum(result.tools_executed for result in results),
        sum(result.usage.prompt_tokens for result in results),
        sum(result.usage.cached_tokens for result in results),
        sum(result.ok for result in results),
    )


def gather(endpoints: Sequence[AgentEndpoint], folder: Path) -> Spent:
    """The same prompts and schemas from a gather in a process of its own."""
    return msgspec.convert(peers.told(order(endpoints, folder), core=harness.SERVER_CORE), Spent)


def order(endpoints: Sequence[AgentEndpoint], folder: Path) -> dict[str, Any]:
    """What the gather is to do, taken from the compiled batch."""
    compiler = TaskCompiler(batch_spec(folder), MODEL)
    tasks = [compiler.compile(number, {"number": number}).task for number in range(AGENTS)]
    protocol = tasks[0].rules.protocol
    assert isinstance(protocol, ConstrainedStep)
    schemas = (protocol.schema(may_answer=False), compiler.output.encoded)
    return {
        "client": "openai-agents",
        "urls": [endpoint.url for endpoint in endpoints],
        "model": MODEL,
        "width": WIDTH,
        "sampling": {"max_tokens": MAX_TOKENS, "temperature": 0.0},
        "system": tasks[0].messages[0].content,
        "tasks": [task.messages[-1].content for task in tasks],
        "schemas": [msgspec.json.decode(schema or b"{}") for schema in schemas],
        "file": str(folder / FILE),
        "reminder": "Now do the task: {}",
    }


async def measure() -> harness.Report:
    """Both, in interleaved rounds."""
    report = harness.Report(
        "p12_agents_vllm",
        "P12",
        "What do two-turn agents with a shared file cost on real vLLM, beside a hand-written gather?",
        f"{AGENTS} agents with a system prompt of about 1,000 tokens on one vLLM server, {WIDTH} requests at a time: "
        "ask, read the same file, ask again. The gather uses the openai SDK and sends the same prompts. New prompts in "
        f"every run; median of {ROUNDS} interleaved rounds. One core each; counts of the last round.",
        ("client", "seconds", "valid answers", "prompt tokens", "from the cache", "file reads"),
    )
    folder = engines.vllm_folder(OPTIONS.vllm)
    if folder is None:
        sys.exit("P12 needs vLLM")
    harness.pin(harness.SERVER_CORE)  # the one server has the other core
    last: dict[str, Spent] = {}

    async def noted(name: str, spent: Spent) -> float:
        last[name] = spent
        return spent.seconds

    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / FILE).write_text(NOTES, encoding="utf-8")
        async with engines.vllm(folder, 1) as endpoints:

            async def batch() -> float:
                return await noted("BatchAgent.run", await ours(endpoints, work))

            async def bare() -> float:
                return await noted("gather, openai SDK", gather(endpoints, work))

            took = await harness.interleaved({"BatchAgent.run": batch, "gather, openai SDK": bare}, ROUNDS)
    for name, seconds in took.items():
        spent = last[name]
        report.row(name, seconds, spent.valid, spent.prompt, spent.cached, spent.reads)
        report.goal(f"{name}: share of the prompt tokens from the cache", spent.cached / spent.prompt)
        report.goal(f"{name}: executions of the tool", spent.reads)
    report.goal("wall against the gather's", took.ratio("BatchAgent.run", "gather, openai SDK"), at_most=1.0)
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick, core=None)
