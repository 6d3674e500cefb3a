"""P6: how often do real engines compute a prefix that many prompts share?

A cold burst of 64 calls in 4 groups over 2 servers of llama.cpp (2 and 8 slots) and, where it is at hand, of vLLM;
beside it the same prompts in a plain gather with round robin.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import engines
import harness
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.values.endpoint import AgentEndpoint
from bare_client import gather_chats

CALLS, GROUPS, SERVERS = 64, 4, 2
PREFIX_WORDS = 1_000
"""As many tokens: each of the words is one."""
ALONE_WORDS = 60
MAX_TOKENS = 4

OPTIONS = harness.arguments(
    __doc__,
    lambda parser: [
        parser.add_argument("--vllm", metavar="DIR", help="a folder with vLLM and a model"),
        parser.add_argument("--rounds", type=int, default=3, help="bursts of each kind on each engine (3)"),
        parser.add_argument("--no-llamacpp", action="store_true", help="vLLM only"),
    ],
)
ROUNDS = 1 if OPTIONS.quick else OPTIONS.rounds
ALONE_ROUNDS = 2 if OPTIONS.quick else 8

WORDS = (
    *("river", "mountain", "copper", "garden", "window", "letter", "morning", "engine", "silver", "market"),
    *("bridge", "forest", "ocean", "paper", "winter", "station", "music", "village", "doctor", "island"),
    *("harbour", "kitchen", "summer", "teacher", "valley", "orange", "planet", "circle"),
)

Opened = Callable[[], AbstractAsyncContextManager[list[AgentEndpoint]]]


def text(seed: str, words: int) -> str:
    """Words in an order of their own for every seed."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def sharing(seed: str) -> tuple[list[str], list[int]]:
    """Prompts that share a beginning with the others of their group, shuffled, and the group of each."""
    groups = [number % GROUPS for number in range(CALLS)]
    random.Random(seed).shuffle(groups)
    prefixes = [text(f"{seed}, group {group}", PREFIX_WORDS) for group in range(GROUPS)]
    return [f"{prefixes[g]}\nQuestion {i}: which word comes first?" for i, g in enumerate(groups)], groups


def alone(seed: str) -> list[str]:
    """Prompts that share nothing."""
    return [text(f"{seed}, {number}", ALONE_WORDS) for number in range(CALLS)]


class Burst:
    """What one burst cost.

    Args:
        wall_s: Seconds from the first request to the last answer.
        prompt_tokens: Tokens of each prompt.
        cached_tokens: How many of them came from the engine's cache.
    """

    def __init__(self, wall_s: float, prompt_tokens: Sequence[int], cached_tokens: Sequence[int]) -> None:
        self.wall_s = wall_s
        self.computed_tokens = sum(prompt_tokens) - sum(cached_tokens)
        # Engines keep whole blocks only (vLLM on a CPU: 128 tokens), so that a hit may lack the prefix's last part.
        self.computations = sum(2 * cached < total for total, cached in zip(prompt_tokens, cached_tokens, strict=True))


async def by_gather(endpoints: list[AgentEndpoint], prompts: list[str]) -> Burst:
    """The plain gather."""
    began = time.perf_counter()
    told = await gather_chats(endpoints, prompts, model="smollm2-135m", max_tokens=MAX_TOKENS, width=CALLS)
    return Burst(time.perf_counter() - began, [t.prompt_tokens for t in told], [t.cached_tokens for t in told])


async def by_pool(endpoints: list[AgentEndpoint], prompts: list[str]) -> Burst:
    """A fresh pool, which is told nothing of prefixes and slots."""
    async with VLLMPool(endpoints, "smollm2-135m", MAX_TOKENS, concurrency=CALLS, temperature=0) as pool:
        began = time.perf_counter()
        responses = await pool.send_all(prompts)
        took = time.perf_counter() - began
    if failed := [response.error for response in responses if not response.success]:
        sys.exit(f"send_all: {len(failed)} calls failed: {failed[0]}")
    usages = [response.usage for response in responses]
    return Burst(took, [u.prompt_tokens for u in usages], [u.cached_tokens for u in usages])


SIDES = {"gather": by_gather, "pool": by_pool}


async def bursts(
    opened: Opened, make: Callable[[str], list[str]], seed: str, rounds: int = ROUNDS
) -> dict[str, list[Burst]]:
    """Some rounds of both sides in turn, each on new prompts, so that nothing of them is in any cache."""
    found: dict[str, list[Burst]] = {side: [] for side in SIDES}
    for number in range(rounds):
        for side in sorted(SIDES, reverse=bool(number % 2)):
            async with opened() as endpoints:
                found[side].append(await SIDES[side](endpoints, make(f"{seed}, {side}, {number}")))
            burst = found[side][-1]
            print(f"{seed}, {side}: {burst.wall_s:.1f} s, {burst.computations} computed", file=sys.stderr, flush=True)
    return found


def compare(report: harness.Report, engine: str, least: int, shared: dict[str, list[Burst]]) -> None:
    """Adds what sharing brought on one engine."""
    counts = {side: statistics.median(b.computations for b in found) for side, found in shared.items()}
    walls = {side: statistics.median(b.wall_s for b in found) for side, found in shared.items()}
    tokens = {side: statistics.median(b.computed_tokens for b in found) for side, found in shared.items()}
    for side in SIDES:
        report.row(f"{engine}, {side}", float(counts[side]), least, int(tokens[side]), walls[side])
    report.goal(f"{engine}: prefix computations against the least possible", counts["pool"] / least, at_most=1.1)
    report.goal(f"{engine}: prefix computations of a bare gather against the least possible", counts["gather"] / least)
    ratio = statistics.median(p.wall_s / g.wall_s for p, g in zip(shared["pool"], shared["gather"], strict=True))
    report.goal(f"{engine}: wall against the gather's", ratio, at_most=1.0)


def compare_alone(report: harness.Report, engine: str, unshared: dict[str, list[Burst]]) -> None:
    """Adds what placement costs where there is nothing to share."""
    for side in SIDES:
        wall = statistics.median(b.wall_s for b in unshared[side])
        report.row(f"{engine}, {side}, nothing shared", "-", "-", "-", wall)
    ratio = statistics.median(p.wall_s / g.wall_s for p, g in zip(unshared["pool"], unshared["gather"], strict=True))
    report.goal(f"{engine}: wall against the gather's where nothing is shared", ratio, at_most=1.03)


async def on_llamacpp(report: harness.Report, slots: int) -> None:
    """Fresh servers for every burst of prompts that share; the same ones for all that share nothing."""
    engine, least = f"llama.cpp, {slots} slots", max(GROUPS, SERVERS * slots)

    def opened() -> AbstractAsyncContextManager[list[AgentEndpoint]]:
        return engines.llamacpp(SERVERS, slots)

    compare(report, engine, least, await bursts(opened, lambda seed: sharing(seed)[0], engine))
    async with opened() as endpoints:
        await by_gather(endpoints, alone("warm-up"))
        unshared = await bursts(lambda: nullcontext(endpoints), alone, f"{engine}, alone", ALONE_ROUNDS)
    compare_alone(report, engine, unshared)


async def on_vllm(report: harness.Report, folder: Path) -> None:
    """The same servers for all bursts: their prompts have nothing in common."""
    async with engines.vllm(folder, SERVERS) as endpoints:

        def opened() -> AbstractAsyncContextManager[list[AgentEndpoint]]:
            return nullcontext(endpoints)

        await by_gather(endpoints, alone("warm-up")[:8])
        compare(report, "vLLM", GROUPS, await bursts(opened, lambda seed: sharing(seed)[0], "vLLM"))
        compare_alone(report, "vLLM", await bursts(opened, alone, "vLLM, alone", ALONE_ROUNDS))


async def measure() -> harness.Report:
    """All engines that are at hand."""
    report = harness.Report(
        "p6_prefixes",
        "P6",
        "How often do real engines compute a prefix that many prompts share?",
        f"A cold burst of {CALLS} prompts in {GROUPS} groups of about 1,000 shared tokens over {SERVERS} servers; "
        f"median of {ROUNDS} rounds on new prompts. Where nothing is shared: {CALLS} prompts of about {ALONE_WORDS} "
        f"tokens, {ALONE_ROUNDS} rounds on the same servers. The client shares the servers' cores. A call computes its "
        "prefix when less than half of its prompt tokens came from the engine's cache, as the engine reports it.",
        ("engine, client", "prefixes computed", "least", "prompt tokens computed", "seconds"),
    )
    folder = engines.vllm_folder(OPTIONS.vllm)
    for slots in () if OPTIONS.no_llamacpp else (2, 8):
        await on_llamacpp(report, slots)
    if folder is not None:
        await on_vllm(report, folder)
    report.notes.append("Least possible: once per group on vLLM; on llama.cpp once per group, and once per slot used.")
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick, core=None)
