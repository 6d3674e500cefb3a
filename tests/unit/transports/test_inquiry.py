"""What endpoints are asked about themselves, and what is made of their words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aurora_swarm.errors import ServerError
from aurora_swarm.ports.transport import TokenCounter, Transport
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import OK, Answer, FaultyServer, Request, error_status
from aurora_swarm.testing.transport_contract import call_of
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.reply import EndpointInfo, EndpointLoad

LLAMACPP_MODELS = {
    "object": "list",
    "data": [{"id": "m", "object": "model", "owned_by": "llamacpp", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}],
}
PROPS = {"default_generation_settings": {"n_ctx": 1024}, "total_slots": 4, "chat_template": "..."}


@asynccontextmanager
async def asked(kind: str = "openai", **paths: Any) -> AsyncIterator[tuple[Transport, FaultyServer]]:
    """A server that answers some paths with a value or an `Answer`, and the transport to it."""
    known = {"/" + path.replace("__", "/").replace("_", "-"): value for path, value in paths.items()}

    def script(request: Request) -> Answer:
        value = known.get(request.path)
        if value is None:
            return OK
        return value if isinstance(value, Answer) else Answer(answers.encode(value))

    async with FaultyServer(script) as server:
        transport = open_transport(kind)
        yield transport, server
        await transport.aclose()


async def test_llamacpp_tells_its_slots_and_the_context_of_one() -> None:
    async with asked(v1__models=LLAMACPP_MODELS, props=PROPS) as (transport, server):
        info = await transport.probe(server.endpoint, timeout_s=5)
    assert (info.models, info.engine, info.slots, info.max_context) == (("m",), "llamacpp", 4, 1024)


@pytest.mark.parametrize("props", [error_status(404), error_status(500), Answer(b"[]")])
async def test_llamacpp_without_props_is_well_all_the_same(props: Answer) -> None:
    async with asked(v1__models=LLAMACPP_MODELS, props=props) as (transport, server):
        info = await transport.probe(server.endpoint, timeout_s=5)
    assert (info.engine, info.slots, info.max_context) == ("llamacpp", None, 2048)


async def test_other_engines_are_not_asked_for_slots() -> None:
    async with asked() as (transport, server):
        info = await transport.probe(server.endpoint, timeout_s=5)
    assert info == EndpointInfo((answers.MODEL,), 131_072, "vllm", info.latency_s)
    assert [request.path for request in server.requests] == ["/v1/models"]


async def test_load_is_read_from_the_metrics() -> None:
    page = Answer(b'vllm:num_requests_running{engine="0"} 3.0\nvllm:num_requests_waiting{engine="0"} 7.0\n')
    async with asked(metrics=page) as (transport, server):
        assert await transport.load(server.endpoint, timeout_s=5) == EndpointLoad(3, 7)


@pytest.mark.parametrize("page", [error_status(404), error_status(501), Answer(b"<html>"), Answer(b"\xff\xfe")])
async def test_a_server_without_metrics_has_no_load(page: Answer) -> None:
    async with asked(metrics=page) as (transport, server):
        assert await transport.load(server.endpoint, timeout_s=5) is None


async def test_metrics_that_fail_are_an_error_with_its_endpoint() -> None:
    async with asked(metrics=error_status(500)) as (transport, server):
        with pytest.raises(ServerError) as caught:
            await transport.load(server.endpoint, timeout_s=5)
    assert caught.value.endpoint == server.url


async def count(transport: Transport, server: FaultyServer) -> int | None:
    assert isinstance(transport, TokenCounter)
    await transport.probe(server.endpoint, timeout_s=5)
    return await transport.count_tokens(server.endpoint, call_of("hi", "m"), timeout_s=5)


async def test_vllm_counts_a_conversation() -> None:
    async with asked(tokenize={"count": 31, "max_model_len": 4096, "tokens": [1] * 31}) as (transport, server):
        assert await count(transport, server) == 31
    assert server.requests[-1].json() == {"messages": [{"role": "user", "content": "hi"}], "model": "m"}


async def test_llamacpp_renders_a_conversation_and_counts_it() -> None:
    paths = {"v1__models": LLAMACPP_MODELS, "apply_template": {"prompt": "<s>hi"}, "tokenize": {"tokens": [1, 2, 3]}}
    async with asked(**paths) as (transport, server):
        assert await count(transport, server) == 3
    assert server.requests[-1].json() == {"content": "<s>hi", "add_special": True, "parse_special": True}


async def test_an_engine_that_cannot_count_says_nothing() -> None:
    async with asked(tokenize=error_status(404)) as (transport, server):
        assert await count(transport, server) is None


async def test_nobody_is_asked_to_count_before_a_probe_has_recognised_the_engine() -> None:
    async with asked() as (transport, server):
        assert isinstance(transport, TokenCounter)
        assert await transport.count_tokens(server.endpoint, call_of("hi", "m"), timeout_s=5) is None
    assert server.requests == []
