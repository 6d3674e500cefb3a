"""A pool as its user sees it."""

import asyncio
import random

import pytest

from aurora_swarm import errors
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint


def fleet(n, roles=("worker", "critic")):
    return [AgentEndpoint(f"node{i}", 8000, {"role": roles[i % len(roles)]}) for i in range(n)]


def echo(call, endpoint):
    return f"{endpoint.host}:{call.messages[-1].content}"


def broken(*hosts):
    def script(call, endpoint):
        return errors.ConnectError("refused") if endpoint.host in hosts else echo(call, endpoint)

    return script


def with_pool(use, *, n=4, script=echo, delay_s=0.1, **options):
    async def main():
        transport = ScriptedTransport(script, delay_s=delay_s)
        async with AgentPool(fleet(n), transport=transport, **options) as pool:
            return await use(pool, transport)

    return run_virtual(main())


def test_post_asks_the_endpoint_that_is_named():
    async def use(pool, _):
        return await pool.post(2, "Hello, agent!")

    response = with_pool(use)
    assert (response.success, response.text, response.agent_index) == (True, "node2:Hello, agent!", 2)
    assert response.endpoint == fleet(4)[2]
    assert (response.attempts, response.error) == (1, None)


def test_post_is_answered_by_another_endpoint_when_the_named_one_fails():
    async def use(pool, _):
        return await pool.post(2, "hi")

    response = with_pool(use, script=broken("node2"))
    assert response.success
    assert response.agent_index != 2
    assert response.attempts == 2
    assert [f.endpoint.host for f in response.failures] == ["node2"]


@pytest.mark.parametrize("index", [-1, 4, 1000])
def test_post_to_an_endpoint_that_is_not_there_is_refused(index):
    async def use(pool, _):
        with pytest.raises(errors.UsageError, match="out of range"):
            await pool.post(index, "hi")

    with_pool(use)


def test_send_all_answers_in_input_order():
    async def use(pool, _):
        return await pool.send_all([f"p{i}" for i in range(50)])

    responses = with_pool(use, delay_s=lambda call, endpoint: random.Random(call.messages[-1].content).random())
    assert [r.text.split(":")[1] for r in responses] == [f"p{i}" for i in range(50)]
    assert [r.index for r in responses] == list(range(50))


def test_send_all_of_nothing_is_nothing():
    async def use(pool, _):
        return await pool.send_all([])

    assert with_pool(use) == []


def test_a_failure_is_a_response_that_says_why():
    async def use(pool, _):
        return await pool.send_all(["a", "b"])

    def script(call, endpoint):
        return errors.RequestRejectedError("too long", status=413) if call.messages[-1].content == "b" else "fine"

    good, bad = with_pool(use, script=script)
    assert good.success
    assert not bad.success
    assert isinstance(bad.error, errors.RequestRejectedError)
    assert "too long" in str(bad.error)
    assert bad.text == ""


def test_broadcast_asks_everyone_once_in_their_order():
    async def use(pool, _):
        return await pool.broadcast_prompt("hi")

    responses = with_pool(use, n=6, delay_s=lambda call, endpoint: 6 - int(endpoint.host[-1]))
    assert [r.text for r in responses] == [f"node{i}:hi" for i in range(6)]
    assert [r.agent_index for r in responses] == list(range(6))


def test_in_a_broadcast_nobody_stands_in_for_one_that_fails():
    async def use(pool, _):
        return await pool.broadcast_prompt("hi")

    responses = with_pool(use, script=broken("node1"))
    assert [r.success for r in responses] == [True, False, True, True]
    assert responses[1].agent_index == 1


def test_stream_yields_as_they_finish_and_says_which():
    async def use(pool, _):
        return [r.index async for r in pool.stream(["3", "1", "2"])]

    assert with_pool(use, delay_s=lambda call, endpoint: float(call.messages[-1].content)) == [1, 2, 0]


def test_closing_a_stream_early_ends_its_calls():
    async def use(pool, transport):
        stream = pool.stream(str(i) for i in range(10**9))
        await anext(stream)
        await stream.aclose()
        return pool.statistics().outstanding, pool.statistics().waiting, len(transport.calls)

    outstanding, waiting, sent = with_pool(use, concurrency=8)
    assert (outstanding, waiting) == (0, 0)
    assert sent < 30


def test_concurrency_is_shared_by_sub_pools():
    async def use(pool, _):
        critics, workers = pool.by_tag("role", "critic"), pool.by_tag("role", "worker")
        await asyncio.gather(critics.send_all(["x"] * 20), workers.send_all(["x"] * 20))
        return asyncio.get_running_loop().time()

    assert with_pool(use, concurrency=4, delay_s=1.0) == pytest.approx(10.0)


def test_sub_pools_hold_what_they_say():
    async def use(pool, _):
        return (
            [e.host for e in pool.by_tag("role", "critic").endpoints],
            [e.host for e in pool.select([3, 0]).endpoints],
            [e.host for e in pool.slice(1, 3).endpoints],
            pool.sample(3, dice=random.Random(1)).size,
            [r.text for r in await pool.select([3, 0]).broadcast_prompt("x")],
            (await pool.slice(1, 3).post(1, "x")).text,
            (await pool.slice(1, 3).post(1, "x")).agent_index,
        )

    critics, selected, sliced, sampled, answers, text, index = with_pool(use)
    assert critics == ["node1", "node3"]
    assert selected == ["node3", "node0"]
    assert sliced == ["node1", "node2"]
    assert sampled == 3
    assert answers == ["node3:x", "node0:x"]
    assert (text, index) == ("node2:x", 1)


@pytest.mark.parametrize(
    "choose",
    [
        lambda pool: pool.by_tag("role", "judge"),
        lambda pool: pool.by_tag("colour", "red"),
        lambda pool: pool.select([]),
        lambda pool: pool.slice(2, 2),
        lambda pool: pool.select([0, 0]),
        lambda pool: pool.select([9]),
        lambda pool: pool.sample(0),
        lambda pool: pool.sample(5),
    ],
)
def test_a_selection_that_makes_no_sense_is_refused(choose):
    async def use(pool, _):
        with pytest.raises(errors.UsageError) as caught:
            choose(pool)
        assert caught.value.remedy

    with_pool(use)


def test_an_unknown_tag_value_names_those_that_exist():
    async def use(pool, _):
        with pytest.raises(errors.NoEndpointsError) as caught:
            pool.by_tag("role", "judge")
        assert "critic, worker" in caught.value.remedy

    with_pool(use)


def test_statistics_tell_who_did_what():
    async def use(pool, _):
        await pool.send_all(["x"] * 8)
        return pool.statistics()

    statistics = with_pool(use)
    assert [e.succeeded for e in statistics.endpoints] == [2, 2, 2, 2]
    assert (statistics.calls, statistics.attempts, statistics.retries) == (8, 8, 0)


def test_max_tokens_of_a_call_wins_over_the_pools():
    async def main():
        transport = ScriptedTransport(echo)
        async with VLLMPool(fleet(1), "m", 100, transport=transport, temperature=0.0) as pool:
            await pool.post(0, "a")
            await pool.post(0, "b", max_tokens=7)
        return [(c.sampling.max_tokens, c.sampling.temperature, c.model) for _, c in transport.calls]

    assert run_virtual(main()) == [(100, 0.0, "m"), (7, 0.0, "m")]


def test_calls_after_closing_end_as_cancelled():
    async def main():
        pool = AgentPool(fleet(1), transport=ScriptedTransport(echo))
        await pool.aclose()
        await pool.aclose()
        return await pool.post(0, "x")

    assert not run_virtual(main()).success


@pytest.mark.parametrize(
    ("endpoints", "options"),
    [([], {}), (fleet(1) * 2, {}), (fleet(1), {"concurrency": 0}), (fleet(1), {"timeout": -1})],
)
def test_a_pool_that_cannot_work_is_refused_at_once(endpoints, options):
    with pytest.raises(errors.UsageError):
        AgentPool(endpoints, transport=ScriptedTransport(echo), **options)
