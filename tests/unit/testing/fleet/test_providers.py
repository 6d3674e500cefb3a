"""Simulated servers speak as providers do, and call tools by the server's own protocol where they are offered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aurora_swarm.errors import AbortedError, CallError, RequestRejectedError
from aurora_swarm.ports.transport import Transport
from aurora_swarm.testing.fleet import Fault, ServerPlan, SimulatedFleet
from aurora_swarm.transports.open import open_transport
from aurora_swarm.values.call import Call, OfferedTool, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply

KINDS = {"vllm": "vllm", "anthropic": "anthropic", "bedrock": "bedrock"}
TURNS = ('{"tool": "look", "arguments": {"at": "{prompt}"}}', '{"answer": {"found": 1}}')
TOOLS = (OfferedTool("look", "Looks.", msgspec.Raw(b'{"type": "object"}')),)
USER = Message("user", 'a "star"')


async def whole(transport: Transport, endpoint: AgentEndpoint, call: Call) -> Reply:
    return await transport.send(endpoint, call, timeout_s=5)


async def streamed(transport: Transport, endpoint: AgentEndpoint, call: Call) -> Reply:
    deltas = [delta async for delta in transport.stream(endpoint, call, timeout_s=5)]
    reply = deltas[-1].reply
    assert reply is not None
    assert "".join(delta.text for delta in deltas) == reply.text
    return reply


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_goes_by_turns_calls_a_tool_and_then_answers(kind: Any, ask: Any) -> None:
    async with SimulatedFleet([ServerPlan(engine=KINDS[kind], turns=TURNS)]) as fleet:  # type: ignore[arg-type]
        transport = open_transport(kind, api_key="k")
        (endpoint,) = fleet.endpoints
        first = await ask(transport, endpoint, Call((USER,), "simulated", tools=TOOLS))
        assert first.tool_calls == (ToolCall("call_0", "look", {"at": 'a "star"'}),)
        assert (first.text, first.finish_reason) == ("", "tool_calls")
        asked = Message("assistant", "", tool_calls=first.tool_calls)
        told = (USER, asked, Message("tool", "a sun", tool_call_id="call_0"))
        second = await ask(transport, endpoint, Call(told, "simulated", tools=TOOLS))
        assert (second.text, second.tool_calls, second.finish_reason) == ('{"found":1}', (), "stop")
        await transport.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_where_no_tools_are_offered_a_step_is_a_text(kind: Any) -> None:
    async with SimulatedFleet([ServerPlan(engine=KINDS[kind], turns=TURNS)]) as fleet:  # type: ignore[arg-type]
        transport = open_transport(kind, api_key="k")
        reply = await whole(transport, fleet.endpoints[0], Call((USER,), "simulated"))
        await transport.aclose()
    assert msgspec.json.decode(reply.text) == {"tool": "look", "arguments": {"at": 'a "star"'}}


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_shared_is_cached_and_counted(kind: Any, ask: Any) -> None:
    system = Message("system", "x" * 640)
    async with SimulatedFleet([ServerPlan(engine=KINDS[kind])]) as fleet:  # type: ignore[arg-type]
        transport = open_transport(kind, api_key="k")
        replies = [
            await ask(transport, fleet.endpoints[0], Call((system, Message("user", text)), "m.anthropic.simulated"))
            if kind != "vllm"
            else await ask(transport, fleet.endpoints[0], Call((system, Message("user", text)), "simulated"))
            for text in ("one", "two")
        ]
        await transport.aclose()
    assert [reply.text for reply in replies] == ["one", "two"]
    assert replies[0].usage.cached_tokens == 0
    assert 150 <= replies[1].usage.cached_tokens < replies[1].usage.prompt_tokens
    assert replies[0].usage.completion_tokens == 16


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bound_on_tokens_ends_an_answer(kind: Any) -> None:
    async with SimulatedFleet([ServerPlan(engine=KINDS[kind])]) as fleet:  # type: ignore[arg-type]
        transport = open_transport(kind, api_key="k")
        call = Call((USER,), "simulated", Sampling(max_tokens=3))
        reply = await whole(transport, fleet.endpoints[0], call)
        await transport.aclose()
    assert (reply.finish_reason, reply.usage.completion_tokens) == ("length", 3)


@pytest.mark.parametrize("ask", [whole, streamed])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_abort_is_never_an_answer(kind: Any, ask: Any) -> None:
    plan = ServerPlan(engine=KINDS[kind])  # type: ignore[arg-type]
    async with SimulatedFleet([plan], faults=[Fault("abort")]) as fleet:
        transport = open_transport(kind, api_key="k")
        with pytest.raises(CallError) as caught:
            await ask(transport, fleet.endpoints[0], Call((USER,), "simulated"))
        await transport.aclose()
    assert isinstance(caught.value, AbortedError) or caught.value.status == 500


@pytest.mark.parametrize(("kind", "other"), [("anthropic", "vllm"), ("vllm", "bedrock"), ("bedrock", "anthropic")])
async def test_a_provider_does_not_know_the_paths_of_another(kind: Any, other: str) -> None:
    async with SimulatedFleet([ServerPlan(engine=kind)]) as fleet:
        transport = open_transport(other, api_key="k")
        with pytest.raises(RequestRejectedError):
            await whole(transport, fleet.endpoints[0], Call((USER,), "m"))
        await transport.aclose()


async def test_a_probe_finds_providers() -> None:
    plans = [ServerPlan(engine="anthropic"), ServerPlan(engine="bedrock")]
    async with SimulatedFleet(plans) as fleet:
        for endpoint, kind in zip(fleet.endpoints, ("anthropic", "bedrock"), strict=True):
            transport = open_transport(kind, api_key="k")
            assert (await transport.probe(endpoint, timeout_s=5)).models == ()
            await transport.aclose()
