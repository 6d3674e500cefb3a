"""P9: how near does the pool come to the best fixed concurrency, when nobody tells it anything?

Simulated servers that batch, and servers that thrash above a limit: every fixed concurrency and the pool's default
settings run side by side, each on eight servers of its own, before and after all servers become four times slower.
Then one real llama.cpp, with 2 and with 8 slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence

import msgspec
import ry

import engines
import harness
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.pools.pool import Pool
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.fleet import ServerPlan, fleet_process
from aurora_swarm.values.endpoint import AgentEndpoint
from bare_client import Body, generate_body

SERVERS = 8
STATIC = (2, 4, 8, 12, 16, 24, 32, 64)
SLOW = 4

OPTIONS = harness.arguments(
    __doc__, lambda parser: parser.add_argument("--no-engines", action="store_true", help="simulated servers only")
)
FOUND_S, SETTLED_S, WATCHED_S = (12, 10, 6) if OPTIONS.quick else (30, 15, 15)

BATCHING = ServerPlan(
    engine="generate", capacity=16, tokens=32, per_token_s=0.006, batch_slowdown=1.0, spread="uniform"
)
"""Runs 16 sequences, slower each the more there are, and lets the others wait."""

THRASHING = ServerPlan(
    engine="generate", capacity=64, tokens=32, per_token_s=0.006, batch_slowdown=4.0, thrash_above=32, spread="uniform"
)
"""Takes 64 sequences, and gets less done with more than 32 of them."""

SCENARIOS = {"batching": BATCHING, "thrashing": THRASHING}

LLAMA_STATIC = {2: (1, 2, 3, 4), 8: (2, 4, 8, 12, 16)}
LLAMA_TOKENS = 24
LLAMA_FOUND_S, LLAMA_FIXED_S, LLAMA_WATCHED_S = (5, 2, 5) if OPTIONS.quick else (10, 2, 10)
LLAMA_ROUNDS = 1 if OPTIONS.quick else 3


class Counter:
    """When answers came.

    Args:
        answers: Driven without end.
    """

    def __init__(self, answers: AsyncIterator[object]) -> None:
        self._answers = answers
        self._times: list[float] = []
        self._loop = asyncio.get_running_loop()

    async def drive(self) -> None:
        """Count until cancelled."""
        async for _ in self._answers:
            self._times.append(self._loop.time())

    async def rate(self, after_s: float, for_s: float) -> float:
        """Answers per second, from `after_s` seconds from now on, over `for_s` seconds."""
        begin = self._loop.time() + after_s
        await asyncio.sleep(after_s + for_s)
        seen = [time for time in self._times if begin <= time < begin + for_s]
        return (len(seen) - 1) / (seen[-1] - seen[0]) if len(seen) > 1 else len(seen) / for_s


def questions() -> Iterator[str]:
    """Prompts without end."""
    return (f"Question {number}: name a colour and say why." for number in itertools.count())


async def by_pool(pool: Pool) -> AsyncIterator[object]:
    """A pool with its default settings."""
    async with pool, contextlib.aclosing(pool.stream(questions())) as responses:
        async for response in responses:
            if not response.success:
                sys.exit(f"a call failed: {response.error}")
            yield response


async def by_crews(endpoints: Sequence[AgentEndpoint], per_server: int, path: str, body: Body) -> AsyncIterator[object]:
    """The bare client with a fixed number of requests under way at each server."""
    client, headers, work = ry.Client(tls_certs_only=[]), ry.Headers({"content-type": "application/json"}), questions()
    answered: asyncio.Queue[int] = asyncio.Queue()

    async def crew(url: str) -> None:
        while True:
            response = await client.fetch(url, method="POST", body=body(next(work)), headers=headers)
            await response.bytes()
            answered.put_nowait(response.status)

    tasks = [asyncio.create_task(crew(endpoint.url + path)) for endpoint in endpoints for _ in range(per_server)]
    try:
        while True:
            if (status := await answered.get()) != 200:
                sys.exit(f"a request of the bare client failed with status {status}")
            yield status
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def driven(contenders: Mapping[str, AsyncIterator[object]]) -> AsyncIterator[dict[str, Counter]]:
    """All contenders at work."""
    counters = {name: Counter(answers) for name, answers in contenders.items()}
    tasks = [asyncio.create_task(counter.drive()) for counter in counters.values()]
    try:
        yield counters
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for answers in contenders.values():
            if isinstance(answers, AsyncGenerator):
                await answers.aclose()


async def rates(counters: Mapping[str, Counter], after_s: float, for_s: float) -> dict[str, float]:
    """The rate of every pool in the same seconds."""
    found = await asyncio.gather(*(counter.rate(after_s, for_s) for counter in counters.values()))
    return dict(zip(counters, found, strict=True))


def contenders(endpoints: Sequence[AgentEndpoint]) -> dict[str, AsyncIterator[object]]:
    """A crew per fixed concurrency, and a pool with its default settings, on servers of their own."""
    own = (list(endpoints[start : start + SERVERS]) for start in range(0, len(endpoints), SERVERS))
    fixed = {f"fixed, {k} per server": by_crews(next(own), k, "/generate", generate_body) for k in STATIC}
    return {**fixed, "controller": by_pool(AgentPool(next(own)))}


def slower(plan: ServerPlan) -> dict[str, float]:
    """What changes when a server becomes slower."""
    return {"per_token_s": plan.per_token_s * SLOW}


async def on_simulated(report: harness.Report, name: str, plan: ServerPlan) -> None:
    """One kind of server, before and after the slow-down."""
    count = SERVERS * (len(STATIC) + 1)
    with fleet_process([plan] * count, cpu=harness.SERVER_CORE) as fleet:
        async with driven(contenders(fleet.endpoints)) as counters:
            before = await rates(counters, FOUND_S, WATCHED_S)
            fleet.set_plan(slice(0, count), **slower(plan))
            after = await rates(counters, SETTLED_S, WATCHED_S)
    for contender in counters:
        report.row(f"{name}: {contender}", before[contender], after[contender])
    judge(report, f"{name}: the controller after {FOUND_S} s, of the best fixed concurrency", before, 0.95)
    judge(report, f"{name}: {SETTLED_S} s after a slow-down of {SLOW} times, of the best then", after, 0.95)


def judge(report: harness.Report, figure: str, found: Mapping[str, float], at_least: float) -> None:
    """Adds the controller's share of the best fixed one."""
    best = max(rate for name, rate in found.items() if name != "controller")
    report.goal(figure, found["controller"] / best, at_least=at_least)


def llama_body(prompt: str) -> bytes:
    """A short answer, the same for the same prompt."""
    chat = {"messages": [{"role": "user", "content": prompt}], "model": "smollm2-135m", "temperature": 0}
    return msgspec.json.encode({**chat, "max_tokens": LLAMA_TOKENS})


async def on_llamacpp(report: harness.Report, slots: int) -> None:
    """One real server; the contenders share it, so they come in turn, for some rounds."""
    found: dict[str, list[float]] = {}
    async with engines.llamacpp(1, slots, context=512) as endpoints:
        for _ in range(LLAMA_ROUNDS):
            for k in LLAMA_STATIC[slots]:
                crews = by_crews(endpoints, k, "/v1/chat/completions", llama_body)
                found.setdefault(f"fixed, {k}", []).append(await alone(crews, LLAMA_FIXED_S))
            pool = VLLMPool(endpoints, "smollm2-135m", LLAMA_TOKENS, temperature=0)
            found.setdefault("controller", []).append(await alone(by_pool(pool), LLAMA_FOUND_S))
    medians = {contender: statistics.median(rates) for contender, rates in found.items()}
    for contender, rate in medians.items():
        print(f"llama.cpp, {slots} slots, {contender}: {found[contender]}", file=sys.stderr, flush=True)
        report.row(f"llama.cpp, {slots} slots: {contender}", rate, "-")
    judge(report, f"llama.cpp, {slots} slots: the controller, of the best fixed concurrency", medians, 0.90)


async def alone(answers: AsyncIterator[object], after_s: float) -> float:
    """The rate of one contender."""
    async with driven({"": answers}) as counters:
        return (await rates(counters, after_s, LLAMA_WATCHED_S))[""]


async def measure() -> harness.Report:
    """Simulated servers, then real ones."""
    report = harness.Report(
        "p9_controller",
        "P9",
        "How near does the pool come to the best fixed concurrency, when nobody tells it anything?",
        "Answers per second. A fixed concurrency is the bare client with so many requests under way at each server. "
        f"Each contender has {SERVERS} simulated servers of its own, and all run at the same time: "
        f"{FOUND_S} s of work, {WATCHED_S} s counted; then all servers {SLOW} times slower, {SETTLED_S} s, and "
        f"{WATCHED_S} s counted. On llama.cpp they run in turn, {LLAMA_WATCHED_S} s counted each, a fresh pool "
        f"after {LLAMA_FOUND_S} s, the others after {LLAMA_FIXED_S} s: the median of {LLAMA_ROUNDS} rounds.",
        ("servers: contender", "answers/s", "after the slow-down"),
    )
    for name, plan in SCENARIOS.items():
        await on_simulated(report, name, plan)
        print(f"{name}: done", file=sys.stderr, flush=True)
    if not OPTIONS.no_engines:
        harness.unpin()
        for slots in LLAMA_STATIC:
            await on_llamacpp(report, slots)
    return report


if __name__ == "__main__":
    harness.start(measure, quick=OPTIONS.quick)
