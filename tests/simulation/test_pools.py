"""Pools and sub-pools over a fleet that misbehaves, in virtual time."""

import asyncio
import random

from aurora_swarm.dispatch.dispatcher import Limits
from aurora_swarm.pools.model_runtime import ModelRuntime
from aurora_swarm.pools.pool import Pool
from aurora_swarm.testing.simulation import EndpointPlan, Fault, SimulatedTransport, answer_to, run_simulated
from aurora_swarm.values.endpoint import AgentEndpoint

SIZE, PROMPTS = 20, [f"prompt {number}" for number in range(600)]
TROUBLES = [
    Fault("refuse"),
    Fault("gray"),
    Fault("reset", rate=0.5),
    Fault("overloaded", rate=0.5, retry_after_s=1.0),
    Fault("lost_parts", rate=0.5),
]


def through_a_pool(main, troubles=TROUBLES):
    """`main(pool, transport)` over 20 endpoints, some of which have a trouble each."""

    async def body():
        fleet = [AgentEndpoint(f"node{i}", 8000, {"half": "ab"[i % 2]}) for i in range(SIZE)]
        faults = {4 * n: (fault,) for n, fault in enumerate(troubles)}
        plans = {e: EndpointPlan(jitter=0.2, faults=faults.get(i, ())) for i, e in enumerate(fleet)}
        transport = SimulatedTransport(plans, dice=random.Random(5))
        limits = Limits(concurrency=160, attempt_timeout_s=10.0)
        async with Pool(ModelRuntime(fleet, transport, limits=limits), range(SIZE)) as pool:
            result = await main(pool, transport)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert asyncio.get_running_loop().timers() == []
        return result

    return run_simulated(body())


def assert_all_right(responses):
    assert [response.error for response in responses if not response.success] == []
    assert [response.text for response in responses] == [answer_to(prompt) for prompt in PROMPTS]


def test_every_prompt_is_answered_in_order_whatever_a_quarter_of_the_fleet_does():
    async def main(pool, transport):
        return await pool.send_all(PROMPTS), transport

    responses, transport = through_a_pool(main)
    assert_all_right(responses)
    assert set(transport.injected) == {"refuse", "gray", "reset", "overloaded"}


def test_bundles_are_answered_in_order_whatever_is_lost():
    async def main(pool, transport):
        return await pool.send_all_batched(PROMPTS), transport

    responses, transport = through_a_pool(main, [fault for fault in TROUBLES if fault.kind != "gray"])
    assert_all_right(responses)
    assert transport.injected["lost_parts"] >= 1


def test_sub_pools_share_one_fleet_and_keep_to_their_part():
    async def main(pool, transport):
        halves = [pool.by_tag("half", name) for name in "ab"]
        both = await asyncio.gather(*(half.send_all(PROMPTS) for half in halves))
        return both, [half.endpoints for half in halves], transport.most_open

    both, parts, most_open = through_a_pool(main)
    for responses, endpoints in zip(both, parts, strict=True):
        assert_all_right(responses)
        assert {response.endpoint for response in responses} <= set(endpoints)
    assert 100 <= most_open <= 160
