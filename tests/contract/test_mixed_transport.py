"""A fleet of several kinds keeps the contract of one transport, and each kind's key stays its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aurora_swarm.testing import answers, provider_answers
from aurora_swarm.testing.faulty_server import HANG, OK, Answer, FaultyServer, Request, error_status
from aurora_swarm.testing.transport_contract import Act, MakeStage, Stage, TransportContract, call_of
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.endpoint import AgentEndpoint

ACTS = {Act.FAIL: error_status(500), Act.BUSY: error_status(429), Act.HANG: HANG}


def batches(request: Request) -> Answer:
    """As vLLM answers, its batch of chats included."""
    if not request.path.endswith("/chat/completions/batch"):
        return OK
    value = answers.completions([conversation[-1]["content"] for conversation in request.json()["messages"]])
    for choice in value["choices"]:
        choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    return Answer(answers.encode(value))


@asynccontextmanager
async def on_stage(kind: str, act: Act, tags: dict[str, str], **options: bool) -> AsyncIterator[Stage]:
    async with FaultyServer(ACTS.get(act) or batches) as server:
        endpoint = AgentEndpoint("127.0.0.1", server.endpoint.port, tags)
        transport = open_transport(kind, **options)  # type: ignore[arg-type]

        def asked() -> int:
            return sum(request.method == "POST" for request in server.requests)

        yield Stage(transport, endpoint, asked, answers.MODEL)
        await transport.aclose()


class TestMixed(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: on_stage("mixed", act, {"backend": "sglang", "priority": "1"})


class TestDynamo(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: on_stage("dynamo", act, {})


class TestPriority(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: on_stage("vllm", act, {}, priority=True)


class TestAlwaysStreamed(TransportContract):
    @pytest.fixture
    def stage(self) -> MakeStage:
        return lambda act: on_stage("vllm", act, {}, streamed=True)


async def test_an_endpoints_model_is_asked_for_whatever_the_call_says() -> None:
    async with FaultyServer(batches) as server:
        endpoint = AgentEndpoint("127.0.0.1", server.endpoint.port, {"model": "own"})
        transport = open_transport("mixed")
        await transport.send(endpoint, call_of("x", "other"), timeout_s=5)
        [_ async for _ in transport.stream(endpoint, call_of("x"), timeout_s=5)]
        await transport.send_many(endpoint, [call_of("x"), call_of("y")], timeout_s=5)
        await transport.embed(endpoint, ["x"], model="other", timeout_s=5)
        await transport.aclose()
    assert [request.json()["model"] for request in server.requests] == ["own"] * 4


async def test_a_key_that_is_given_goes_to_all_who_are_no_provider() -> None:
    def claude(request: Request) -> Answer:
        return Answer(answers.encode(provider_answers.anthropic("yes")))

    async with FaultyServer() as engine, FaultyServer(claude) as other:
        transport = open_transport("mixed", api_key="given", environ={"ANTHROPIC_API_KEY": "provider's"})
        tagged = AgentEndpoint("127.0.0.1", other.endpoint.port, {"backend": "anthropic"})
        await transport.send(engine.endpoint, call_of("x", "m"), timeout_s=5)
        await transport.send(tagged, call_of("x", "m"), timeout_s=5)
        await transport.aclose()
    assert engine.requests[0].headers["authorization"] == "Bearer given"
    assert other.requests[0].headers["x-api-key"] == "given"
