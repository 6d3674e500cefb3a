"""A16: what share of its prompts does a swarm that talks to itself take from the servers' caches?

A debate of eight agents over four rounds on real llama.cpp and, where it is at hand, on real vLLM; and the length of a
blackboard's prompts for 32 and for 512 agents on a simulated fleet.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import engines
import harness
from aurora_swarm.patterns.blackboard import Blackboard
from aurora_swarm.patterns.debate import debate
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Usage

AGENTS, TIMES, MAX_TOKENS = 8, 4, 80
CREWS, BOARD_ROUNDS = (32, 512), 4
QUESTION = """\
A laboratory of five people has one server with two graphics cards, which is idle at night and overbooked during the
day. Buying a second server costs as much as a student's salary for a year; renting by the hour costs a fifth of that at
the present use, but nobody knows how the use will grow. The data may not leave the country. Should it buy or rent?
Give your answer with your two strongest reasons, in no more than four sentences."""

OPTIONS = harness.arguments(
    __doc__, lambda parser: parser.add_argument("--vllm", metavar="DIR", help="a folder with vLLM and a model")
)


async def debated(report: harness.Report, engine: str, endpoints: Sequence[AgentEndpoint], goal: float | None) -> None:
    """One debate, round by round."""
    async with VLLMPool(endpoints, "smollm2-135m", MAX_TOKENS, seed=1) as pool:
        began = time.perf_counter()
        outcome = await debate(pool, QUESTION, AGENTS, TIMES, key=lambda text: text[:1])
        took = time.perf_counter() - began
    if outcome.error or any(each.n_failed for each in outcome.rounds):
        sys.exit(f"{engine}: {outcome.error or 'answers are missing'}")
    for number, responses in enumerate(outcome.rounds, 1):
        used = responses.usage
        report.row(f"{engine}, round {number}", used.prompt_tokens, used.cached_tokens, used.completion_tokens, "-")
    used = outcome.usage
    report.row(f"{engine}, all rounds", used.prompt_tokens, used.cached_tokens, used.completion_tokens, took)
    share = used.cached_tokens / used.prompt_tokens
    report.goal(f"{engine}: share of a debate's prompt tokens from the cache", share, at_least=goal)


async def board_tokens(size: int) -> Usage:
    """What a blackboard's agents spent."""
    plan = ServerPlan(capacity=8, latency_s=0.05, tokens=60, answer="A note of sixty tokens. " * 10)

    def prompt(role: str, board: dict[str, list[str]]) -> str:
        return "\n".join(board["note"]) + f"\nAdd one {role}."

    with fleet_process([plan] * size, cpu=harness.SERVER_CORE) as fleet:
        agents = [AgentEndpoint(e.host, e.port, {"role": "note"}) for e in fleet.endpoints]
        async with VLLMPool(agents, "simulated", 60) as pool:
            session = await Blackboard(["note"], prompt, board_tokens=1_000).run(pool, BOARD_ROUNDS)
    if session.responses.n_failed:
        sys.exit(f"{session.responses.n_failed} agents of the board failed")
    return session.responses.usage


async def measure() -> harness.Report:
    """Debates on real engines, boards on simulated ones."""
    report = harness.Report(
        "a16_shared_first",
        "A16",
        "What share of its prompts does a swarm that talks to itself take from the servers' caches?",
        f"A debate of {AGENTS} agents over {TIMES} rounds, up to {MAX_TOKENS} tokens an answer, on one server; tokens "
        f"as the server counts them. A blackboard of {CREWS[0]} and of {CREWS[1]} agents over {BOARD_ROUNDS} rounds on "
        "simulated servers: prompt tokens per agent and round.",
        ("what", "prompt tokens", "from the cache", "generated", "seconds"),
    )
    each: dict[int, float] = {}
    for size in CREWS:
        used = await board_tokens(size)
        each[size] = used.prompt_tokens / size / BOARD_ROUNDS
        report.row(f"blackboard, {size} agents", used.prompt_tokens, used.cached_tokens, used.completion_tokens, "-")
        report.goal(f"blackboard, {size} agents: prompt tokens per agent and round", each[size])
    small, large = CREWS
    report.goal("blackboard: the same for 512 agents against 32", each[large] / each[small], at_most=1.1)
    async with engines.llamacpp(1, 8, context=4096) as endpoints:
        await debated(report, "llama.cpp, 8 slots", endpoints, None)
    folder = engines.vllm_folder(OPTIONS.vllm)
    if folder is not None:
        async with engines.vllm(folder, 1) as endpoints:
            await debated(report, "vLLM", endpoints, 0.8)
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick, core=None)
