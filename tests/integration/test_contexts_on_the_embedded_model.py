"""Slots, contexts and token counts as llama.cpp really tells them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from aurora_swarm.errors import RequestRejectedError
from aurora_swarm.local.open import configure
from aurora_swarm.local.server import LocalConfig, LocalServer
from aurora_swarm.pools.budgets import with_max_tokens
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.ports.transport import TokenCounter
from aurora_swarm.testing.transport_contract import call_of
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.endpoint import AgentEndpoint

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.local_model


@pytest.fixture(scope="module")
def config() -> LocalConfig:
    """The default model, fetched into the user's cache when it is not there yet."""
    return asyncio.run(configure(None, None, str, slots=2, context=512))


@pytest.fixture
async def endpoint(config: LocalConfig) -> AsyncIterator[AgentEndpoint]:
    async with LocalServer(config) as running:
        yield running.endpoint


async def test_it_tells_slots_context_and_load_and_counts_as_it_will_charge(endpoint: AgentEndpoint) -> None:
    transport = open_transport("openai")
    info = await transport.probe(endpoint, timeout_s=30)
    assert (info.engine, info.slots, info.max_context) == ("llamacpp", 2, 512)
    assert await transport.load(endpoint, timeout_s=30) is not None
    assert isinstance(transport, TokenCounter)
    call = with_max_tokens(call_of("Name a colour. " * 9, info.models[0]), 4)
    counted = await transport.count_tokens(endpoint, call, timeout_s=30)
    reply = await transport.send(endpoint, call, timeout_s=100)
    await transport.aclose()
    assert counted == reply.usage.prompt_tokens


async def test_prompts_are_answered_within_the_context_or_refused_before_they_are_sent(endpoint: AgentEndpoint) -> None:
    async with VLLMPool([endpoint], max_tokens=4, temperature=0) as pool:
        prompts = [f"Say {word}." for word in ("red", "green", "blue")]
        together = await pool.send_all_batched(prompts)
        alone = await pool.send_all(prompts)
        assert [r.text for r in together] == [r.text for r in alone]
        assert all(r.success and r.usage.completion_tokens <= 4 for r in together)
        long = await pool.post(0, "The bee flies. " * 100, max_tokens=2000)
        assert long.success
        assert long.usage.prompt_tokens + long.usage.completion_tokens <= 512
        too_long = await pool.post(0, "The bee flies. " * 200)
    assert isinstance(too_long.error, RequestRejectedError)
    assert "the context holds 512" in str(too_long.error)
