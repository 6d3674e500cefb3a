"""From what names a backend to the kind, the endpoint and the key; and several kinds under one pool."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aurora_swarm import BatchAgent
from aurora_swarm.errors import InputError, NothingListensError, UsageError
from aurora_swarm.pools.open import PoolOptions, describe, open_pool
from aurora_swarm.testing import answers, provider_answers
from aurora_swarm.testing.faulty_server import OK, Answer, FaultyServer, Request, error_status
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet
from aurora_swarm.transports.kinds import MIXED
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message

CALL = Call((Message("user", "hello"),))


def https(host: str) -> AgentEndpoint:
    return AgentEndpoint(host, 443, scheme="https")


@pytest.mark.parametrize(
    ("text", "kind", "endpoint"),
    [
        ("vllm://node1:8000", "vllm", AgentEndpoint("node1", 8000)),
        ("sglang://node1", "sglang", AgentEndpoint("node1", 8000)),
        ("dynamo://node1:9", "dynamo", AgentEndpoint("node1", 9)),
        ("llamacpp://node1:9/", "llamacpp", AgentEndpoint("node1", 9)),
        ("openai://node1:9/v1", "openai", AgentEndpoint("node1", 9)),
        ("openai://", "openai", https("api.openai.com")),
        ("anthropic://", "anthropic", https("api.anthropic.com")),
        ("anthropic:///", "anthropic", https("api.anthropic.com")),
        ("anthropic://[::1]:9", "anthropic", AgentEndpoint("::1", 9)),
        ("bedrock://us-east-1", "bedrock", https("bedrock-runtime.us-east-1.amazonaws.com")),
        ("bedrock://us-gov-west-1", "bedrock", https("bedrock-runtime.us-gov-west-1.amazonaws.com")),
        ("bedrock://127.0.0.1:9", "bedrock", AgentEndpoint("127.0.0.1", 9)),
        ("https://node1/base/v1", "https", AgentEndpoint("node1", 443, scheme="https", path="/base")),
        ("node1:8000", "http", AgentEndpoint("node1", 8000)),
        ("generate://node1:9", "generate", AgentEndpoint("node1", 9)),
        ("vllm://node1:9?priority=1", "vllm", AgentEndpoint("node1", 9, {"priority": "1"})),
    ],
)
def test_a_url_names_a_kind_and_a_place(text: str, kind: str, endpoint: AgentEndpoint) -> None:
    assert describe(text) == (kind, [endpoint])


def test_a_model_behind_the_address_is_the_endpoints_own() -> None:
    kind, (endpoint,) = describe("bedrock://us-east-1#anthropic.claude-x%2Fy:0")
    assert kind == "bedrock"
    assert endpoint.tags == {"model": "anthropic.claude-x/y:0"}


@pytest.mark.parametrize(
    "text",
    ["carrier://x", "vllm://x?prio=1", "vllm://", "bedrock://", "openai://k@x", "vllm://x?priority=high", "vllm://x:0"],
)
def test_what_names_nothing_is_one_clear_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        describe(text)
    assert caught.value.remedy


def test_a_hostfile_may_name_kinds_and_models(tmp_path: Path) -> None:
    path = tmp_path / "agents.hostfile"
    path.write_text(
        "node1:8000 slots=4\n"
        "https://api.anthropic.com backend=anthropic model=claude-x\n"
        "node2:8000 backend=sglang priority=1\n"
    )
    kind, fleet = describe(path)
    assert kind == MIXED
    assert [endpoint.tags["backend"] for endpoint in fleet] == ["http", "anthropic", "sglang"]
    path.write_text("node1:8000 backend=vllm\nnode2:8000 backend=vllm\n")
    assert describe(path)[0] == "vllm"


@pytest.mark.parametrize("backend", ["anthropic://", "bedrock://us-east-1", "openai://", ["vllm://n", "anthropic://"]])
async def test_a_provider_is_never_asked_for_whatever_model_comes_first(backend: Any) -> None:
    with pytest.raises(UsageError, match="which model") as caught:
        async with open_pool(backend):
            pass
    assert "#MODEL" in caught.value.remedy


# -- over real sockets ----------------------------------------------------------------------------------------------


def claude(request: Request) -> Answer:
    if request.method == "GET":
        return OK
    value = request.json()
    text = "".join(block["text"] for block in value["messages"][-1]["content"])
    return Answer(answers.encode(provider_answers.anthropic(f"claude: {text}", model=value["model"])))


def converse(request: Request) -> Answer:
    if request.method == "GET":
        return Answer(b"{}", 404)
    text = request.json()["messages"][-1]["content"][0]["text"]
    return Answer(answers.encode(provider_answers.converse(f"bedrock: {text}")))


@asynccontextmanager
async def three() -> AsyncIterator[tuple[list[str], list[FaultyServer]]]:
    """An engine, and two that speak as providers do."""
    async with FaultyServer(models=("served",)) as engine, FaultyServer(claude) as one, FaultyServer(converse) as two:
        urls = [
            f"vllm://127.0.0.1:{engine.endpoint.port}",
            f"anthropic://127.0.0.1:{one.endpoint.port}#claude-x",
            f"bedrock://127.0.0.1:{two.endpoint.port}#amazon.nova-pro-v1:0",
        ]
        yield urls, [engine, one, two]


async def test_each_endpoint_of_a_mixed_pool_is_asked_in_its_own_way_for_its_own_model() -> None:
    async with three() as (urls, servers), open_pool(urls, PoolOptions(api_key="k")) as pool:
        responses = await pool.broadcast_prompt("hello")
        capabilities = pool.capabilities
        parts = [pool.by_tag("backend", kind).capabilities.native_tools for kind in ("vllm", "anthropic", "bedrock")]
        concurrency = pool.concurrency
    assert [r.text for r in responses] == ["hello", "claude: hello", "bedrock: hello"]
    posted = [next(r for r in server.requests if r.method == "POST") for server in servers]
    assert [r.path for r in posted] == [
        "/v1/chat/completions",
        "/v1/messages",
        "/model/amazon.nova-pro-v1%3A0/converse",
    ]
    assert [r.json().get("model") for r in posted] == ["served", "claude-x", None]
    assert [r.headers.get("x-api-key") or r.headers["authorization"] for r in posted] == ["Bearer k", "k", "Bearer k"]
    assert (capabilities.native_tools, capabilities.schemas, capabilities.concurrency) == (False, True, 8)
    assert parts == [False, True, True]
    assert concurrency == 64 + 8 + 8


async def test_a_call_for_a_model_goes_to_engines_and_not_past_an_endpoints_own() -> None:
    async with three() as (urls, servers), open_pool(urls, PoolOptions(model="served", api_key="k")) as pool:
        await pool.broadcast_prompt("hello")
    bodies = [r.json() for server in servers for r in server.requests if r.method == "POST"]
    assert [body.get("model") for body in bodies] == ["served", "claude-x", None]


async def test_one_kind_is_one_transport_with_its_capabilities() -> None:
    async with FaultyServer(claude) as server:
        url = f"anthropic://127.0.0.1:{server.endpoint.port}"
        async with open_pool(url, PoolOptions(model="claude-y", api_key="k")) as pool:
            outcome = await pool.ask(Call(CALL.messages, model=pool.model))
            assert pool.capabilities.native_tools
            assert pool.capabilities.cache_marks
            assert pool.concurrency == 8
    assert outcome.reply is not None
    assert (outcome.reply.text, outcome.reply.model) == ("claude: hello", "claude-y")


async def test_a_provider_that_refuses_the_key_is_no_server_that_is_down() -> None:
    async with FaultyServer(lambda _: error_status(401, "invalid x-api-key")) as server:
        url = f"anthropic://127.0.0.1:{server.endpoint.port}#m"
        with pytest.raises(UsageError, match="invalid x-api-key") as caught:
            async with open_pool(url, PoolOptions(api_key="wrong")):
                pass
    assert not isinstance(caught.value, NothingListensError)
    assert "AURORA_SWARM_API_KEY" in caught.value.remedy


async def test_priority_is_sent_where_the_address_says_so() -> None:
    async with FaultyServer() as server:
        for query, priority in (("?priority=1", 2), ("?priority=0", None), ("", None)):
            async with open_pool(f"vllm://127.0.0.1:{server.endpoint.port}{query}") as pool:
                assert pool.capabilities.priority == (priority is not None)
                await pool.ask(Call(CALL.messages, turns_left=2))
            assert server.requests[-1].json().get("priority") == priority


async def test_streamed_answers_tell_when_their_first_token_came() -> None:
    async with FaultyServer() as server:
        url = f"vllm://127.0.0.1:{server.endpoint.port}"
        for streamed in (False, True):
            async with open_pool(url, PoolOptions(streamed=streamed)) as pool:
                outcome = await pool.ask(CALL)
            assert outcome.reply is not None
            assert outcome.reply.text == "hello"
            assert (outcome.reply.ttft_s is not None) == streamed
            assert server.requests[-1].json().get("stream", False) == streamed


async def test_a_pool_that_is_built_by_hand_says_what_is_usual() -> None:
    from aurora_swarm import AgentPool, VLLMPool

    async with AgentPool([AgentEndpoint("n")]) as agents, VLLMPool([AgentEndpoint("n")]) as engines:
        assert not agents.capabilities.schemas
        assert engines.capabilities.schemas
        assert not engines.capabilities.native_tools


# -- models by tag -------------------------------------------------------------------------------------------------


async def test_endpoints_that_are_tagged_with_one_model_are_one_fleet_of_that_model() -> None:
    async with SimulatedFleet([ServerPlan(model="m1")] * 2) as fleet:
        tagged = [msgspec.structs.replace(e, tags={"model": "m1"}) for e in fleet.endpoints]
        async with open_pool(tagged) as pool:
            assert pool.model == "m1"
        async with open_pool(tagged, PoolOptions(model="m1")) as pool:
            assert pool.model == "m1"


async def test_another_tagged_model_is_never_answered_from_the_old_ones_journal(tmp_path: Path) -> None:
    async with SimulatedFleet([ServerPlan(model="m1"), ServerPlan(model="m2")]) as fleet:
        for models in (["m1"], ["m2"], ["m1", "m2"]):
            backend = [
                msgspec.structs.replace(endpoint, tags={"model": model})
                for endpoint, model in zip(fleet.endpoints[int(models[0] == "m2") :], models, strict=False)
            ]
            run = functools.partial(
                BatchAgent.run, "Say {word}.", [{"word": "a"}], backend=backend, journal=tmp_path / "j"
            )
            assert [result.resumed for result in await run()] == [False]
            assert [result.resumed for result in await run()] == [True]
