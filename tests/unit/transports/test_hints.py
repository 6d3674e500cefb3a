"""Servers that schedule by priority, or take hints, get them; nobody else does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aurora_swarm.transports.hints import DynamoChatWire, PriorityChatWire
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message

CALL = Call((Message("user", 'a "quoted" } text'),), sampling=Sampling(max_tokens=9), agent="a7", turns_left=3)


def sent(wire: OpenAIChatWire, call: Call) -> Any:
    plain, body = (msgspec.json.decode(w.encode(call, "m")) for w in (OpenAIChatWire(), wire))
    streamed = msgspec.json.decode(wire.encode_stream(call, "m"))
    more = {key: value for key, value in body.items() if key not in plain}
    assert {**plain, **more} == body
    assert {key: streamed[key] for key in body} == body
    return more


def test_nearly_finished_agents_go_first() -> None:
    assert sent(PriorityChatWire(), CALL) == {"priority": 3}
    assert sent(PriorityChatWire(), Call(CALL.messages)) == {"priority": 0}


def test_engines_that_take_the_largest_number_first_get_it_negated() -> None:
    assert sent(PriorityChatWire(least_first=False), CALL) == {"priority": -3}


@pytest.mark.parametrize(
    ("call", "hints"),
    [
        (CALL, {"priority": -3, "osl": 9, "speculative_prefill": True}),
        (Call(CALL.messages, agent="a7"), {"priority": 0}),
        (Call(CALL.messages, turns_left=1), {"priority": -1}),
    ],
)
def test_dynamo_is_told_how_far_an_agent_is(call: Call, hints: dict[str, Any]) -> None:
    assert sent(DynamoChatWire(), call) == {"nvext": {"agent_hints": hints}}
