"""Endpoints that do not know ``/generate`` are asked for chat completions, and nothing else changes."""

import pytest

from aurora_swarm import AgentPool
from aurora_swarm.errors import RequestRejectedError, ServerError
from aurora_swarm.testing.faulty_server import OK, Answer, FaultyServer, Request
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Call
from aurora_swarm.values.message import Message

CALL = Call((Message("user", "hello"),))


def chat_only(request: Request) -> Answer:
    return Answer(b"", 404) if request.path == "/generate" else OK


async def test_an_engine_without_generate_is_asked_by_chat_from_then_on() -> None:
    async with FaultyServer(chat_only, models=("served",)) as server:
        transport = open_transport("generate")
        for _ in range(3):
            reply = await transport.send(server.endpoint, CALL, timeout_s=5)
            assert reply.text == "hello"
        await transport.aclose()
    posted = [request.path for request in server.requests if request.method == "POST"]
    assert posted == ["/generate", *["/v1/chat/completions"] * 3]
    assert {r.json()["model"] for r in server.requests if "chat" in r.path} == {"served"}


async def test_a_server_that_knows_generate_is_never_asked_otherwise() -> None:
    async with FaultyServer() as server:
        transport = open_transport("generate")
        assert (await transport.send(server.endpoint, CALL, timeout_s=5)).text == "hello"
        await transport.aclose()
    assert [request.path for request in server.requests] == ["/generate"]


async def test_a_server_that_knows_neither_fails_with_its_first_words() -> None:
    def script(request: Request) -> Answer:
        return Answer(b'{"error": "no such page: %s"}' % request.path.encode(), 404)

    async with FaultyServer(script) as server:
        transport = open_transport("generate")
        for _ in range(2):
            with pytest.raises(RequestRejectedError, match="no such page: /generate"):
                await transport.send(server.endpoint, CALL, timeout_s=5)
        await transport.aclose()


async def test_a_failure_of_the_other_path_is_its_own() -> None:
    def script(request: Request) -> Answer:
        return Answer(b"", 404) if request.path == "/generate" else Answer(b"", 500)

    async with FaultyServer(script) as server:
        transport = open_transport("generate")
        for _ in range(2):
            with pytest.raises(ServerError):
                await transport.send(server.endpoint, CALL, timeout_s=5)
        await transport.aclose()
    assert [request.path for request in server.requests].count("/generate") == 1


async def test_a_pool_of_agents_may_hold_both_kinds() -> None:
    async with (
        FaultyServer() as speaks,
        FaultyServer(chat_only) as chats,
        AgentPool([speaks.endpoint, chats.endpoint]) as pool,
    ):
        responses = await pool.broadcast_prompt("hello")
        assert [r.text for r in responses] == ["hello", "hello"]
        assert pool.statistics().attempts == 2
