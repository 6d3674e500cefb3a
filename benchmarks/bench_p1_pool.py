"""P1: how much of the HTTP client's own rate is left when a pool drives it?

64 endpoints that answer at once, one core for the client, one for the server.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import harness
import peers
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.pools.pool import Pool
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.values.endpoint import AgentEndpoint
from bare_client import BareClient, chat_body, generate_body
from nginx_server import instant_server

ENDPOINTS = 64
LIMIT = {
    "bare client, /generate": "bare client, /generate",
    "AgentPool.send_all": "bare client, /generate",
    "bare client, chat": "bare client, chat",
    "VLLMPool.send_all": "bare client, chat",
}
"""What each is measured against: the same requests."""
PEERS = ("aiohttp", "openai", "batch-agent", "httpx", "litellm")
WIDTH = 512

OPTIONS = harness.arguments(__doc__, lambda p: p.add_argument("--no-peers", action="store_true", help="ours only"))
PROMPTS = 8_000 if OPTIONS.quick else 30_000
ROUNDS = 2 if OPTIONS.quick else 5


def prompts(count: int) -> list[str]:
    """Short prompts that all differ from their first word on."""
    return [f"{number} is a number. Say something about it in one sentence." for number in range(count)]


async def bare(client: BareClient, asked: Sequence[str]) -> float:
    """Requests per second of the bare client."""
    took = await client.run(asked)
    if client.failed:
        sys.exit(f"the bare client: {client.failed} requests failed")
    return len(asked) / took


async def through(pool: Pool, asked: Sequence[str]) -> float:
    """Requests per second of `send_all`."""
    began = time.perf_counter()
    responses = await pool.send_all(asked)
    took = time.perf_counter() - began
    if failed := [response.error for response in responses if not response.success]:
        sys.exit(f"send_all: {len(failed)} calls failed: {failed[0]}")
    return len(asked) / took


def cases(
    endpoints: list[AgentEndpoint], agent: AgentPool, vllm: VLLMPool
) -> dict[str, Callable[[], Awaitable[float]]]:
    """What a round runs."""
    asked = prompts(PROMPTS)
    generate = BareClient(endpoints, "/generate", generate_body, WIDTH)
    chat = BareClient(endpoints, "/v1/chat/completions", chat_body, WIDTH)
    return {
        "bare client, /generate": lambda: bare(generate, asked),
        "AgentPool.send_all": lambda: through(agent, asked),
        "bare client, chat": lambda: bare(chat, asked),
        "VLLMPool.send_all": lambda: through(vllm, asked),
    }


async def measure() -> harness.Report:
    """All of them in one run."""
    report = harness.Report(
        "p1_pool",
        "P1",
        "How much of the bare client's rate does a pool keep?",
        f"{PROMPTS:,} prompts over {ENDPOINTS} endpoints of an instant server (nginx), {WIDTH} under way; client and "
        f"server on one core each; median of {ROUNDS} interleaved rounds.",
        ("client", "requests/s", "of the bare client"),
    )
    with instant_server(ENDPOINTS) as endpoints:
        async with AgentPool(endpoints, WIDTH) as agent, VLLMPool(endpoints, "m", concurrency=WIDTH) as vllm:
            rates = await harness.interleaved(cases(endpoints, agent, vllm), ROUNDS)
        others = peers.rates(() if OPTIONS.no_peers else PEERS, endpoints, WIDTH, quick=OPTIONS.quick)
    for name, rate in rates.items():
        report.row(name, rate, rates.ratio(name, LIMIT[name]))
    for name, rate in others.items():
        report.row(f"{name}, chat", rate, rate / rates["bare client, chat"])
    for name in ("AgentPool.send_all", "VLLMPool.send_all"):
        report.goal(f"{name}, share of the bare client", rates.ratio(name, LIMIT[name]), at_least=0.6)
    report.notes.append("batch-agent names one server only; it runs one turn per agent, without a schema.")
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
