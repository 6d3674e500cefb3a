"""A model is opened by the first who needs it, shared, and closed by the last."""

import asyncio

import pytest

from aurora_swarm.errors import NothingListensError, UsageError
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.swarms.mind import Thought
from aurora_swarm.swarms.models import Model, OpenAI
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint


@pytest.fixture
async def url():
    async with SimulatedFleet([ServerPlan(model="m")]) as fleet:
        yield f"{fleet.endpoints[0].url}/v1"


async def test_all_who_use_it_at_once_share_one_pool(url):
    model = OpenAI("m", url)
    both = asyncio.Barrier(2)

    async def use():
        async with model.opened() as mind:
            await both.wait()
            return mind, (await mind.think(Thought(prompt="hello"))).text

    (one, said), (other, said_too) = await asyncio.gather(use(), use())
    assert one is other
    assert said == said_too == "hello"


async def test_the_last_closes_it_also_when_another_opened_it(url):
    model = OpenAI("m", url)
    opened, leave = asyncio.Event(), asyncio.Event()

    async def first():
        async with model.opened():
            opened.set()
            await leave.wait()

    async def last():
        await opened.wait()
        async with model.opened() as mind:
            leave.set()
            await task
            assert (await mind.think(Thought(prompt="still open"))).ok
        return mind

    task = asyncio.ensure_future(first())
    mind = await last()
    assert not (await mind.think(Thought(prompt="closed"))).ok
    async with model.opened() as again:
        assert again is not mind
        assert (await again.think(Thought(prompt="open again"))).ok


async def test_who_is_cancelled_while_leaving_has_left(url):
    model = OpenAI("m", url)

    async def leaves_at_once():
        async with model.opened():
            asyncio.current_task().cancel()  # takes effect where leaving waits behind the one who comes

    async def comes():
        async with model.opened() as mind:
            return mind

    _, mind = await asyncio.gather(leaves_at_once(), comes(), return_exceptions=True)
    assert not (await mind.think(Thought(prompt="closed by the last"))).ok


async def test_when_the_first_cannot_open_it_the_next_tries_anew():
    model = OpenAI("m", "http://127.0.0.1:9/v1")
    for _ in range(2):
        with pytest.raises(NothingListensError):
            async with model.opened():
                pass


async def test_a_pool_of_ones_own_stays_open():
    transport = ScriptedTransport(lambda call, endpoint: "yes")
    async with VLLMPool([AgentEndpoint("a")], "m", transport=transport) as pool:
        model = Model(backend=pool)
        for _ in range(2):
            async with model.opened() as mind:
                assert (await mind.think(Thought(prompt="?"))).text == "yes"


async def test_without_a_backend_it_is_said_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("AURORA_SWARM_HOSTFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as raised:
        async with Model().opened():
            pass
    assert raised.value.remedy


async def test_what_a_thought_says_goes_before_what_the_model_says():
    transport = ScriptedTransport(lambda call, endpoint: "yes")
    async with (
        VLLMPool([AgentEndpoint("a")], "m", transport=transport) as pool,
        Model(backend=pool, max_tokens=7, temperature=0.0, seed=3).opened() as mind,
    ):
        await mind.think(Thought(prompt="?"))
        await mind.think(Thought(prompt="?", max_tokens=5))
    one, other = (call.sampling for _, call in transport.calls)
    assert (one.max_tokens, one.temperature, one.seed) == (7, 0.0, 3)
    assert (other.max_tokens, other.temperature, other.seed) == (5, 0.0, 3)
