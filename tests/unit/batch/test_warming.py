"""Prefixes that are in a cache before they are needed, counted by simulated servers on real sockets."""

import asyncio

import pytest

from aurora_swarm import AgentEndpoint, VLLMPool
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.kvflow import KVFlowAdvisor
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.batch.warming import LAST, Prefetcher, Warmed, is_worth_warming, one_token, warm
from aurora_swarm.pools.open import open_pool
from aurora_swarm.testing.fleet import Fault, ServerPlan, SimulatedFleet
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import EndpointInfo, Reply, Usage

LONG = "What everybody is told first. " * 200
OPENING = (Message("system", LONG),)


@pytest.mark.parametrize(
    ("chars", "agents", "endpoints", "worth"),
    [(10_000, 100, 2, True), (100, 100, 2, False), (10_000, 7, 2, False), (10_000, None, 2, True)],
)
def test_warming_is_worth_it_for_a_long_prefix_and_many_agents(chars, agents, endpoints, worth):
    assert is_worth_warming(chars, agents, endpoints) is worth


def test_a_request_that_warms_asks_for_one_token_and_goes_last():
    call = Call(OPENING, "m", Sampling(500, 0.5, stop=("x",)), schema=b"{}", prefix="p", agent="a", turn=3)
    asked = one_token(call)
    assert (asked.messages, asked.sampling, asked.schema, asked.turns_left) == (OPENING, Sampling(1, 0.5), None, LAST)
    assert (asked.prefix, asked.agent) == ("p", "a")


async def test_each_server_is_asked_once_and_then_no_agent_finds_an_empty_cache():
    spec = BatchSpec(task="Say {x}", system_prompt=LONG)
    inputs = [{"x": str(n)} for n in range(40)]
    async with SimulatedFleet([ServerPlan(tokens=4)] * 3) as fleet:
        async with VLLMPool(fleet.endpoints, "simulated", concurrency=12) as pool:
            compiler = TaskCompiler(spec, "simulated", inputs=inputs)
            warmed = await warm(pool, compiler.opening, model="simulated", agents=len(inputs))
            before = fleet.counts()
            jobs = [compiler.compile(index, each) for index, each in enumerate(inputs)]
            await asyncio.gather(*(pool.ask(Call(job.task.messages, prefix=job.task.prefix)) for job in jobs))
        after = fleet.counts()
    assert (warmed.asked, warmed.ready, warmed.usage.completion_tokens) == (3, 3, 3)
    assert [fleet.counts(place).prefix_computations for place in range(3)] == [1, 1, 1]
    assert after.prefix_computations == before.prefix_computations
    assert (after.cached_tokens - before.cached_tokens) / (after.prompt_tokens - before.prompt_tokens) > 0.95


async def test_slots_of_llamacpp_are_left_to_the_gate():
    async with SimulatedFleet([ServerPlan(engine="llamacpp", capacity=4)] * 2) as fleet:
        async with VLLMPool(fleet.endpoints, "simulated") as pool:
            assert await warm(pool, OPENING, model="simulated", agents=100) == Warmed()
        assert fleet.counts().requests == 0


async def test_servers_that_a_request_leaves_nothing_in_are_not_asked():
    async with SimulatedFleet([ServerPlan(engine="generate")]) as fleet:
        url = f"generate://127.0.0.1:{fleet.endpoints[0].port}"
        async with open_pool(url) as pool:
            assert await warm(pool, OPENING, model="", agents=100) == Warmed()
        assert fleet.counts().requests == 0


def warmed_on(delays, *, answer=lambda endpoint: Reply("x", usage=Usage(100, 1))):
    """Warm a scripted fleet; say what it came to and how long it took."""
    transport = ScriptedTransport(
        lambda call, endpoint: answer(endpoint),
        delay_s=lambda call, endpoint: delays[endpoint.port],
        info=EndpointInfo(("m",)),
    )

    async def main():
        endpoints = [AgentEndpoint("node", port) for port in range(len(delays))]
        async with VLLMPool(endpoints, "m", transport=transport) as pool:
            return await warm(pool, OPENING, model="m", agents=1000)

    return run_virtual(main())


def test_a_server_that_is_slow_is_not_waited_for():
    warmed = warmed_on([1.0, 1.2, 60.0])
    assert (warmed.asked, warmed.ready) == (3, 2)
    assert warmed.wall_s == pytest.approx(3.0, abs=0.1)


async def test_servers_that_are_down_are_passed_over():
    faults = {0: Fault("refuse"), 1: Fault("refuse")}
    async with (
        SimulatedFleet([ServerPlan()] * 4, faults=faults) as fleet,
        VLLMPool(fleet.endpoints, "simulated") as pool,
    ):
        warmed = await warm(pool, OPENING, model="simulated", agents=100)
    assert warmed.ready == 2


# -- prefetch ----------------------------------------------------------------------------------------------------


def taught(seconds):
    advisor = KVFlowAdvisor()
    for number in range(8):
        advisor.begins(f"old{number}", "search", 0.0)
        advisor.ends(f"old{number}", "search", seconds)
    return advisor


def prefetched(waits_s, *, delay_s=0.1, seconds=10.0):
    """Agents wait for their tools on a scripted fleet; give the prefetcher and what was sent when."""
    sent = []

    def script(call, endpoint):
        sent.append((call.agent, endpoint.port, call.sampling.max_tokens))
        return Reply("x", usage=Usage(50, 1))

    async def main():
        transport = ScriptedTransport(script, delay_s=delay_s, info=EndpointInfo(("m",)))
        endpoints = [AgentEndpoint("node", port) for port in range(3)]
        async with VLLMPool(endpoints, "m", transport=transport) as pool, Prefetcher(pool, taught(seconds)) as made:

            async def agent(number, wait_s):
                call = Call(OPENING, "m", agent=f"a{number}")
                return await made.waiting(
                    call, pool.endpoints[number % 3], "search", lambda: asyncio.sleep(wait_s, number)
                )

            answers = await asyncio.gather(*(agent(n, wait_s) for n, wait_s in enumerate(waits_s)))
            assert answers == list(range(len(waits_s)))
            return made, len(transport.calls)

    (made, calls) = run_virtual(main())
    return made, calls, sent


def test_the_server_that_answered_is_asked_for_the_prefix_of_each_agent_before_it_is_back():
    made, calls, sent = prefetched([11.0] * 4)
    assert sorted(sent) == [("a0", 0, 1), ("a1", 1, 1), ("a2", 2, 1), ("a3", 0, 1)]
    assert (made.made, calls) == (4, 4)
    assert made.usage == Usage(200, 4)


def test_nothing_is_asked_for_whoever_is_back_early():
    made, calls, _ = prefetched([2.0, 1.0])
    assert (made.made, calls) == (0, 0)


def test_a_prefetch_ends_with_the_wait_of_its_agent():
    made, calls, sent = prefetched([10.0], delay_s=60.0)
    assert (made.made, calls, sent) == (1, 1, [])


def test_what_a_tool_raises_is_raised():
    async def main():
        transport = ScriptedTransport(lambda call, endpoint: "x")
        async with VLLMPool([AgentEndpoint("a")], "m", transport=transport) as pool, Prefetcher(pool) as made:

            async def fails():
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await made.waiting(Call(OPENING, agent="a"), pool.endpoints[0], "t", fails)
            return await made.waiting(Call(OPENING, agent="a"), None, "t", lambda: asyncio.sleep(0, "answer"))

    assert run_virtual(main()) == "answer"


def test_leaving_ends_what_is_under_way():
    async def main():
        transport = ScriptedTransport(lambda call, endpoint: "x", delay_s=100.0, info=EndpointInfo(("m",)))
        async with VLLMPool([AgentEndpoint("a")], "m", transport=transport) as pool:
            async with Prefetcher(pool, taught(10.0)) as made:
                call = Call(OPENING, "m", agent="a")
                waiting = asyncio.create_task(
                    made.waiting(call, pool.endpoints[0], "search", lambda: asyncio.sleep(50))
                )
                await asyncio.sleep(12)
                assert len(transport.calls) == 1
            left = [task for task in asyncio.all_tasks() if "prefetch" in task.get_coro().__qualname__]
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            return left, asyncio.get_running_loop().time()

    left, now_s = run_virtual(main())
    assert left == []
    assert now_s < 20


@pytest.mark.parametrize("prefetch", [True, False])
async def test_prefetch_brings_back_what_others_pushed_out_of_the_cache(prefetch):
    """One agent waits 1.5 s for its tool while others fill the cache, which holds four of their prompts."""
    own = Call((Message("user", "mine " + LONG),), "simulated", Sampling(4), agent="a")
    blocks = 4 * len(LONG) // 64
    advisor = KVFlowAdvisor(least_wait_s=0.5)
    for number in range(8):
        advisor.begins(f"old{number}", "search", 0.0)
        advisor.ends(f"old{number}", "search", 1.4)
    async with (
        SimulatedFleet([ServerPlan(tokens=4, cache_blocks=blocks)]) as fleet,
        VLLMPool(fleet.endpoints, "simulated") as pool,
        Prefetcher(pool, advisor) as made,
    ):

        async def tool():
            for number in range(12):
                await pool.ask(Call((Message("user", f"{number} " + LONG),), "simulated", Sampling(4)))
            await asyncio.sleep(1.5)

        first = await pool.ask(own)
        await (made.waiting(own, first.endpoint, "search", tool) if prefetch else tool())
        turn = await pool.ask(own)
    share = turn.reply.usage.cached_tokens / turn.reply.usage.prompt_tokens
    assert share > 0.95 if prefetch else share == 0
