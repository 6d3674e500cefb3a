"""P1: how many one-turn agents with a schema does a batch run, against the HTTP client's own rate?

64 endpoints that answer at once, one core for the client, one for the server; batch-agent beside it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from pydantic import BaseModel

import harness
import peers
from aurora_swarm import BatchAgent
from aurora_swarm.agents.short import first_call
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.transports.http_plain import PlainHttp
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.values.endpoint import AgentEndpoint
from bare_client import BareClient
from nginx_server import instant_server

ENDPOINTS, WIDTH = 64, 512
TASK = "{number} is a number. Say something about it in one sentence."
ANSWER = '{"label": "good", "score": 7}'

OPTIONS = harness.arguments(__doc__, lambda p: p.add_argument("--no-peers", action="store_true", help="ours only"))
AGENTS = 8_000 if OPTIONS.quick else 20_000
ROUNDS = 2 if OPTIONS.quick else 5


class Verdict(BaseModel):
    """What each agent answers."""

    label: str
    score: int


async def agents(endpoints: list[AgentEndpoint], count: int) -> float:
    """Agents per second of `BatchAgent.run`."""
    inputs = [{"number": number} for number in range(count)]
    began = time.perf_counter()
    results = await BatchAgent.run(
        task=TASK,
        inputs=inputs,
        model="m",
        backend=endpoints,
        max_inflight=WIDTH,
        output_schema=Verdict,
    )
    took = time.perf_counter() - began
    if failed := [result.error for result in results if not result.ok]:
        sys.exit(f"{len(failed)} agents failed: {failed[0]}")
    return count / took


def recorded_body() -> Callable[[str], bytes]:
    """Writes an agent's request, given its number."""
    compiler = TaskCompiler(BatchSpec(task=TASK, output_schema=Verdict), "m")
    request = OpenAIChatWire().encode(first_call(compiler.compile(0, {"number": "@"}).task), "m")
    return lambda number: request.replace(b"@", number.encode())


async def bare(endpoints: list[AgentEndpoint], count: int) -> float:
    """Requests per second of the bare client, which sends what the agents send and opens connections as they do."""
    client = BareClient(endpoints, "/v1/chat/completions", recorded_body(), WIDTH)
    took = await client.run([str(number) for number in range(count)])
    if client.failed:
        sys.exit(f"the bare client: {client.failed} requests failed")
    return count / took


async def own(endpoints: list[AgentEndpoint], count: int) -> float:
    """Requests per second of our HTTP client alone, driven as the bare client is."""
    http, body, work = PlainHttp(), recorded_body(), iter(range(count))
    headers = {"content-type": "application/json"}

    async def crew() -> None:
        for number in work:
            url = f"{endpoints[number % ENDPOINTS].url}/v1/chat/completions"
            await http.request("POST", url, body=body(str(number)), headers=headers, timeout_s=60.0)

    began = time.perf_counter()
    await asyncio.gather(*(crew() for _ in range(WIDTH)))
    took = time.perf_counter() - began
    await http.aclose()
    return count / took


async def measure() -> harness.Report:
    """All of them in one run."""
    report = harness.Report(
        "p1_agents",
        "P1",
        "How many one-turn agents with a schema does a batch run?",
        f"{AGENTS:,} agents with a pydantic schema over {ENDPOINTS} endpoints of an instant server (nginx), {WIDTH} "
        f"under way, connections opened in each round; client and server on one core each; median of {ROUNDS} "
        "interleaved rounds.",
        ("client", "agents/s", "of the bare client"),
    )
    with instant_server(ENDPOINTS, content=ANSWER) as endpoints:
        rates = await harness.interleaved(
            {
                "bare client": lambda: bare(endpoints, AGENTS),
                "our HTTP client alone": lambda: own(endpoints, AGENTS),
                "BatchAgent.run": lambda: agents(endpoints, AGENTS),
            },
            ROUNDS,
        )
        others = {} if OPTIONS.no_peers else {"batch-agent": peer(endpoints)}
    for name, rate in rates.items():
        report.row(name, rate, rates.ratio(name, "bare client"))
    for name, rate in others.items():
        report.row(name, rate, rate / rates["bare client"])
        report.goal(f"BatchAgent.run against {name}", rates["BatchAgent.run"] / rate, at_least=25.0)
    share = rates.ratio("BatchAgent.run", "bare client")
    report.goal("BatchAgent.run, share of the bare client", share, at_least=0.5)
    report.notes.append("batch-agent names one server only.")
    report.notes.append("The bare client is `ry`, driven as directly as it can be.")
    return report


def peer(endpoints: list[AgentEndpoint]) -> float:
    """Agents per second of batch-agent."""
    count = 400 if OPTIONS.quick else 1_500
    return count / peers.seconds("batch-agent", endpoints, count, WIDTH, schema=True)


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
