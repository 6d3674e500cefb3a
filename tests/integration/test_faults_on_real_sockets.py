"""The fault matrix: real pools against simulated servers, over real sockets.

Every test also asserts that the fault was really met, so that none can pass for want of trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from aurora_swarm.errors import AttemptTimeoutError, RequestRejectedError, WrongModelError
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.pools.pool import Pool
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.fleet import Fault, ServerPlan, SimulatedFleet
from aurora_swarm.values.outcome import Response

SERVERS = 30
CALLS = 2_000
PROMPTS = [f"question {number}." for number in range(CALLS)]
DEAD = (2, 7, 11, 17, 23, 28)
"""A fifth of the servers."""

VLLM = ServerPlan(latency_s=0.004, capacity=16)
AGENT = ServerPlan(engine="generate", latency_s=0.004, capacity=16)

SEEN_BY_PROBES = {
    "refuse": Fault("refuse"),
    "reset": Fault("reset"),
    "hang before the head": Fault("hang_before_head"),
    "hang after the head": Fault("hang_after_head"),
    "drip": Fault("drip"),
    "cut in the head": Fault("cut", at=20),
    "cut at once": Fault("cut", at=0),
    "500": Fault("status", status=500),
    "html": Fault("html"),
    "garbage": Fault("garbage"),
}
SEEN_BY_MODEL_PROBES = {
    "wrong types": Fault("wrong_types"),
    "error with 200": Fault("error_200"),
}
SEEN_BY_CALLS = {
    "gray": Fault("gray"),
    "abort": Fault("abort"),
    "cut in the body": Fault("cut", at=85),
}


def agent_pool(fleet: SimulatedFleet, **options: float) -> Pool:
    return AgentPool(fleet.endpoints, concurrency=240, timeout=options.pop("timeout", 2.0), **options)


def vllm_pool(fleet: SimulatedFleet, **options: float) -> Pool:
    return VLLMPool(fleet.endpoints, concurrency=240, timeout=options.pop("timeout", 2.0), **options)


def failures(responses: Sequence[Response]) -> list[str]:
    """What went wrong, in words; a wrong answer counts as a failure."""
    said = [f"{r.index}: {r.error}" for r in responses if not r.success]
    return said + [f"{r.index}: {r.text!r}" for r in responses if r.success and PROMPTS[r.index] not in r.text]


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the condition is about another part
            await asyncio.sleep(0.01)


async def attempts_with_a_fifth_dead(
    plan: ServerPlan, fault: Fault, pool_of: Callable[[SimulatedFleet], Pool]
) -> dict[int, int]:
    """Runs all prompts, checks what holds for every way to be dead, and gives the attempts on each dead server."""
    async with SimulatedFleet([plan] * SERVERS, faults=dict.fromkeys(DEAD, fault)) as fleet:
        async with pool_of(fleet) as pool:
            responses = await pool.send_all(PROMPTS)
            seen = pool.statistics()
        assert failures(responses) == []
        assert seen.calls == CALLS
        assert seen.attempts - CALLS <= 0.05 * CALLS, (seen.retries, seen.hedges, seen.moves)
        assert all(seen.endpoints[index].succeeded == 0 for index in DEAD)
        assert sum(fleet.counts(index).faults.get(fault.kind, 0) for index in DEAD) >= len(DEAD)
        raced = seen.hedges + seen.moves > 0  # a rival that was cancelled is an attempt, and says nothing
        return {index: max(1, seen.endpoints[index].failed - raced) for index in DEAD}


# -- a fifth of the fleet is dead ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [*SEEN_BY_PROBES, *SEEN_BY_MODEL_PROBES])
async def test_vllm_pool_loses_nothing_to_servers_that_a_probe_finds_dead(way: str) -> None:
    fault = {**SEEN_BY_PROBES, **SEEN_BY_MODEL_PROBES}[way]
    attempts = await attempts_with_a_fifth_dead(VLLM, fault, vllm_pool)
    assert 1 <= max(attempts.values()) <= 3, attempts


@pytest.mark.parametrize("way", SEEN_BY_PROBES)
async def test_agent_pool_loses_nothing_to_servers_that_a_probe_finds_dead(way: str) -> None:
    attempts = await attempts_with_a_fifth_dead(AGENT, SEEN_BY_PROBES[way], agent_pool)
    assert 1 <= max(attempts.values()) <= 3, attempts


@pytest.mark.parametrize("way", SEEN_BY_CALLS)
async def test_vllm_pool_loses_nothing_to_servers_that_look_healthy(way: str) -> None:
    attempts = await attempts_with_a_fifth_dead(VLLM, SEEN_BY_CALLS[way], vllm_pool)
    assert max(attempts.values()) >= 1


@pytest.mark.parametrize("way", [*SEEN_BY_CALLS, *SEEN_BY_MODEL_PROBES])
async def test_agent_pool_loses_nothing_to_servers_that_look_healthy(way: str) -> None:
    fault = {**SEEN_BY_CALLS, **SEEN_BY_MODEL_PROBES}[way]
    attempts = await attempts_with_a_fifth_dead(AGENT, fault, agent_pool)
    assert max(attempts.values()) >= 1


@pytest.mark.parametrize("way", [*SEEN_BY_PROBES, *SEEN_BY_CALLS])
async def test_servers_that_die_on_the_way_cost_no_call(way: str) -> None:
    fault = {**SEEN_BY_PROBES, **SEEN_BY_CALLS}[way]
    async with SimulatedFleet([VLLM] * SERVERS) as fleet, vllm_pool(fleet) as pool:
        work = asyncio.create_task(pool.send_all(PROMPTS[:1_000]))
        await until(lambda: fleet.counts().answered > 250)
        for index in DEAD:
            await fleet.set_fault(index, fault)
        assert failures(await work) == []
        assert sum(fleet.counts(index).faults.get(fault.kind, 0) for index in DEAD) >= len(DEAD)


@pytest.mark.parametrize(("plan", "pool_of"), [(VLLM, vllm_pool), (AGENT, agent_pool)])
async def test_requests_that_fail_now_and_then_cost_no_call(
    plan: ServerPlan, pool_of: Callable[[SimulatedFleet], Pool]
) -> None:
    kinds = ("reset", "garbage", "html", "error_200", "wrong_types", "hang_before_head", "status")
    async with SimulatedFleet([plan] * SERVERS, faults=[Fault(kind, rate=0.005) for kind in kinds]) as fleet:
        async with pool_of(fleet) as pool:
            assert failures(await pool.send_all(PROMPTS)) == []
        assert set(fleet.counts().faults) == set(kinds)


@pytest.mark.parametrize("way", ["refuse", "500"])
async def test_a_stream_loses_nothing_to_servers_dead_from_the_start(way: str) -> None:
    dead = dict.fromkeys(range(0, 100, 5), SEEN_BY_PROBES[way])
    async with SimulatedFleet([VLLM] * 100, faults=dead) as fleet, vllm_pool(fleet) as pool:
        assert failures([response async for response in pool.stream(PROMPTS)]) == []
        seen = pool.statistics()
        raced = seen.hedges + seen.moves > 0  # a rival that was cancelled is an attempt, and says nothing
        assert max(seen.endpoints[index].failed for index in dead) <= 3 + raced


async def test_calls_wait_out_the_death_of_the_whole_fleet() -> None:
    async with SimulatedFleet([VLLM] * SERVERS) as fleet:
        async with vllm_pool(fleet, deadline=60.0) as pool:
            await fleet.stop(slice(None))
            work = asyncio.create_task(pool.send_all(PROMPTS))
            await until(lambda: all(e.condition != "well" for e in pool.statistics().endpoints))
            assert not work.done()
            await fleet.start(slice(None))
            responses = await work
            seen = pool.statistics()
        assert failures(responses) == []
        assert seen.attempts <= 1.2 * CALLS
        assert fleet.counts().answered >= CALLS


# -- servers that come back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plan", "pool_of"), [(VLLM, vllm_pool), (AGENT, agent_pool)])
async def test_a_server_that_comes_back_is_used_again(
    plan: ServerPlan, pool_of: Callable[[SimulatedFleet], Pool]
) -> None:
    async with SimulatedFleet([plan] * 6) as fleet, pool_of(fleet) as pool:
        assert failures(await pool.send_all(PROMPTS[:300])) == []
        answered = fleet.counts(2).answered
        await fleet.stop(2)
        assert failures(await pool.send_all(PROMPTS[:300])) == []
        assert pool.statistics().endpoints[2].condition != "well"
        await fleet.start(2)
        async with asyncio.timeout(30):
            while fleet.counts(2).answered < answered + 10:
                assert failures(await pool.send_all(PROMPTS[:60])) == []
                await asyncio.sleep(0.05)
        assert pool.statistics().endpoints[2].condition == "well"


async def test_servers_that_flap_cost_no_call() -> None:
    faults = dict.fromkeys(DEAD, Fault("flap", period_s=0.4))
    async with SimulatedFleet([VLLM] * SERVERS, faults=faults) as fleet, vllm_pool(fleet) as pool:
        async with asyncio.timeout(60):
            while any(fleet.counts(index).faults.get("flap", 0) < 3 for index in DEAD):
                assert failures(await pool.send_all(PROMPTS[:500])) == []
        flapping = [pool.statistics().endpoints[index] for index in DEAD]
        assert sum(endpoint.succeeded for endpoint in flapping) > 0
        assert sum(endpoint.failed for endpoint in flapping) > 0


# -- servers that say no -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", ["1", "0", "date", "soon", "-5", "999999999999", "1.5", "", None])
async def test_servers_that_ask_for_patience_cool_down_and_others_are_used(
    status: int, retry_after: str | None
) -> None:
    fault = Fault("status", status=status, retry_after=retry_after)
    async with SimulatedFleet([VLLM] * SERVERS, faults=dict.fromkeys(DEAD, fault)) as fleet:
        async with vllm_pool(fleet) as pool:
            responses = await pool.send_all(PROMPTS[:600])
            seen = pool.statistics()
        assert failures(responses) == []
        assert all(fleet.counts(index).faults["status"] >= 1 for index in DEAD)
        assert {e.condition for i, e in enumerate(seen.endpoints) if i not in DEAD} == {"well"}


async def test_a_server_that_asks_for_a_long_time_is_left_alone_for_it() -> None:
    fault = Fault("status", status=429, retry_after="999999999999")
    async with SimulatedFleet([VLLM] * SERVERS, faults=dict.fromkeys(DEAD, fault)) as fleet, vllm_pool(fleet) as pool:
        assert failures(await pool.send_all(PROMPTS)) == []
        seen = pool.statistics()
        assert {seen.endpoints[index].condition for index in DEAD} == {"cooling"}
        together = 2 * 240 // SERVERS  # what it may have been given before it said so
        assert seen.attempts - CALLS <= together * len(DEAD) + seen.hedges + seen.moves


@pytest.mark.parametrize("retry_after", ["0", "soon", "-5", "1", None])
async def test_a_fleet_that_asks_for_patience_is_waited_for(retry_after: str | None) -> None:
    busy = Fault("status", status=429, retry_after=retry_after, until_s=0.5)
    async with SimulatedFleet([VLLM] * 6, faults=dict.fromkeys(range(6), busy)) as fleet, vllm_pool(fleet) as pool:
        assert failures(await pool.send_all(PROMPTS[:200])) == []
        assert fleet.counts().faults["status"] >= 6


async def test_a_queue_that_is_full_costs_no_call() -> None:
    plan = ServerPlan(latency_s=0.01, capacity=2, max_queue=2)
    async with SimulatedFleet([plan] * 6) as fleet, vllm_pool(fleet) as pool:
        assert failures(await pool.send_all(PROMPTS[:400])) == []
        assert fleet.counts().overloaded > 0


@pytest.mark.parametrize(("plan", "pool_of"), [(VLLM, vllm_pool), (AGENT, agent_pool)])
async def test_bad_prompts_fail_alone(plan: ServerPlan, pool_of: Callable[[SimulatedFleet], Pool]) -> None:
    prompts = [f"poison {number}" if number % 10 == 3 else PROMPTS[number] for number in range(CALLS)]
    async with SimulatedFleet([_refusing(plan)] * SERVERS) as fleet, pool_of(fleet) as pool:
        responses = await pool.send_all(prompts)
        assert [r.index for r in responses if not r.success] == list(range(3, CALLS, 10))
        # Two where a busy machine made the call late, so that it was raced; each is counted below.
        assert {refusals(response) for response in responses if not response.success} <= {1, 2}
        seen = pool.statistics()
        assert {endpoint.condition for endpoint in seen.endpoints} == {"well"}
        assert CALLS // 10 <= fleet.counts().refused <= CALLS // 10 + seen.hedges + seen.moves


async def test_bad_prompts_fail_alone_in_bundles() -> None:
    prompts = [f"poison {number}" if number % 100 == 3 else PROMPTS[number] for number in range(1_000)]
    async with SimulatedFleet([_refusing(VLLM)] * 10) as fleet, vllm_pool(fleet) as pool:
        responses = await pool.send_all_batched(prompts)
        assert [r.index for r in responses if not r.success] == list(range(3, 1_000, 100))
        assert all(isinstance(r.error, RequestRejectedError) for r in responses if not r.success)
        assert {endpoint.condition for endpoint in pool.statistics().endpoints} == {"well"}


def refusals(response: Response) -> int:
    """How often servers refused it; a rival may have been cancelled beside."""
    return sum(isinstance(attempt.error, RequestRejectedError) for attempt in response.failures)


def _refusing(plan: ServerPlan) -> ServerPlan:
    return ServerPlan(engine=plan.engine, latency_s=plan.latency_s, capacity=plan.capacity, refuses="poison")


# -- servers that are something else -------------------------------------------------------------------------------


async def test_servers_with_another_model_are_left_out() -> None:
    faults = dict.fromkeys(DEAD, Fault("wrong_model"))
    async with SimulatedFleet([VLLM] * SERVERS, faults=faults) as fleet:
        async with VLLMPool(fleet.endpoints, "simulated", concurrency=240, timeout=2.0) as pool:
            assert failures(await pool.send_all(PROMPTS)) == []
            seen = pool.statistics().endpoints
        assert {seen[index].condition for index in DEAD} == {"excluded"}
        assert sum(fleet.counts(index).answered for index in DEAD) == 0


async def test_a_fleet_of_another_model_fails_every_call_with_the_reason() -> None:
    async with SimulatedFleet([VLLM] * 3) as fleet:
        async with VLLMPool(fleet.endpoints, "other", timeout=2.0) as pool:
            responses = await pool.send_all(PROMPTS[:30])
        assert all(isinstance(response.error, WrongModelError) for response in responses)


async def test_answers_are_bounded_by_the_context_of_the_server_that_gives_them() -> None:
    plan = ServerPlan(latency_s=0.004, capacity=16, max_context=2_048, tokens=500)
    prompts = [f"{number:04d} " + "word " * 240 if number % 2 else PROMPTS[number] for number in range(400)]
    faults = dict.fromkeys((1, 4), Fault("smaller_context"))
    async with SimulatedFleet([plan] * 6, faults=faults) as fleet, vllm_pool(fleet) as pool:
        responses = await pool.send_all(prompts, max_tokens=400)
        assert [str(response.error) for response in responses if not response.success] == []
        assert all(fleet.counts(index).answered > 0 for index in (1, 4))
        long = [response for response in responses if response.index % 2]
        smaller = {fleet.endpoints[index] for index in (1, 4)}
        assert {r.usage.completion_tokens for r in long if r.endpoint not in smaller} == {400}
        assert max(r.usage.completion_tokens or 0 for r in long if r.endpoint in smaller) < 512 - 300
        assert {endpoint.condition for endpoint in pool.statistics().endpoints} == {"well"}


# -- answers of many parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("choices_reordered"),
        Fault("choices_missing"),
        Fault("choices_duplicated"),
        Fault("dies_mid_batch"),
        Fault("dies_mid_batch", at=3),
        Fault("abort"),
        Fault("reset"),
        Fault("status", status=500),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.at}",
)
async def test_each_prompt_of_a_bundle_gets_its_own_answer(fault: Fault) -> None:
    async with SimulatedFleet([VLLM] * 10, faults=dict.fromkeys((1, 6), fault)) as fleet:
        async with vllm_pool(fleet) as pool:
            responses = await pool.send_all_batched(PROMPTS[:1_000])
        assert failures(responses) == []
        assert all(fleet.counts(index).faults.get(fault.kind, 0) >= 1 for index in (1, 6))


# -- servers that take their time ----------------------------------------------------------------------------------


async def test_stragglers_get_a_rival_within_the_budget() -> None:
    plan = ServerPlan(latency_s=0.01, capacity=16)
    straggle = Fault("straggle", rate=0.005, factor=500)
    async with SimulatedFleet([plan] * SERVERS, faults=[straggle]) as fleet:
        async with vllm_pool(fleet, timeout=20.0) as pool:
            responses = await pool.send_all(PROMPTS)
            seen = pool.statistics()
        assert failures(responses) == []
        assert seen.hedges <= 2 + 0.02 * CALLS
        assert seen.hedges + seen.moves > 0
        assert fleet.counts().faults["straggle"] > 0
        assert fleet.counts().cancelled > 0


async def test_what_is_cancelled_is_cancelled_on_the_servers() -> None:
    slow = ServerPlan(latency_s=30.0, capacity=8)
    async with SimulatedFleet([slow] * 8) as fleet, vllm_pool(fleet) as pool:
        work = asyncio.create_task(pool.send_all(PROMPTS[:100]))
        await until(lambda: fleet.counts().running == 64)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await until(lambda: fleet.counts().running == fleet.counts().queued == 0)
        assert fleet.counts().cancelled >= 64


async def test_a_call_to_servers_that_all_hang_ends_with_its_deadline() -> None:
    async with SimulatedFleet([VLLM] * 3, faults=[Fault("gray")]) as fleet:
        async with vllm_pool(fleet, timeout=0.2, deadline=0.5) as pool:
            responses = await pool.send_all(PROMPTS[:9])
        assert all(not response.success and response.error is not None for response in responses)
        assert any(isinstance(a.error, AttemptTimeoutError) for r in responses for a in r.failures)
