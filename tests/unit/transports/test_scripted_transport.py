"""The scripted transport does what its script says, on any clock."""

from __future__ import annotations

import asyncio

import pytest

from aurora_swarm.errors import AttemptTimeoutError, RequestRejectedError, ServerError
from aurora_swarm.testing.transport_contract import call_of
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Reply

HERE = AgentEndpoint("here")


async def test_answers_are_used_up_in_order_and_calls_recorded() -> None:
    transport = ScriptedTransport(["one", ServerError("two"), Reply("three", "length")])
    assert (await transport.send(HERE, call_of("a"), timeout_s=1)).text == "one"
    with pytest.raises(ServerError):
        await transport.send(HERE, call_of("b"), timeout_s=1)
    assert (await transport.send(HERE, call_of("c"), timeout_s=1)).finish_reason == "length"
    assert [call.messages[0].content for _, call in transport.calls] == ["a", "b", "c"]


async def test_a_script_that_is_used_up_fails_for_good() -> None:
    with pytest.raises(RequestRejectedError, match="no further answer"):
        await ScriptedTransport([]).send(HERE, call_of("a"), timeout_s=1)


async def test_a_part_that_fails_is_in_the_list() -> None:
    one, two = await ScriptedTransport(["one", ServerError("two")]).send_many(HERE, [call_of("a")] * 2, timeout_s=1)
    assert isinstance(one, Reply)
    assert isinstance(two, ServerError)


def test_delays_pass_in_virtual_time() -> None:
    async def main() -> float:
        transport = ScriptedTransport(lambda call, endpoint: "x", delay_s=lambda call, endpoint: 3600)
        await transport.send(HERE, call_of("a"), timeout_s=7200)
        with pytest.raises(AttemptTimeoutError):
            await transport.send(HERE, call_of("a"), timeout_s=60)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(3660)
