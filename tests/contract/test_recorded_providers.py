"""Answers as providers write them, whole and streamed, are the same reply, and cut anywhere they are none.

`recorded/providers/` holds one answer of each provider, put together by hand from what its documentation and its own
client library show of the wire (November 2026), since no provider can be asked from a test: a text and two tool calls
in one answer, with everything around them that the library names (thinking, cache counters, padding, pings).
"""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from aurora_swarm.errors import BadResponseError, CallError, TruncatedError
from aurora_swarm.transports.anthropic import AnthropicWire
from aurora_swarm.transports.bedrock import BedrockWire
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.wire import StreamWire
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.reply import Reply, Usage

FOLDER = Path(__file__).with_name("recorded") / "providers"
WIRES: dict[str, tuple[StreamWire, str, str, str]] = {
    "openai": (OpenAIChatWire(), "sse", "call_", ""),
    "anthropic": (AnthropicWire(), "sse", "toolu_01", "I look both up."),
    "bedrock": (BedrockWire(), "eventstream", "tooluse_", "I look both up."),
}
MODELS = {"openai": "gpt-5-mini-2025-08-07", "anthropic": "claude-sonnet-4-5-20250929", "bedrock": ""}


def expected(name: str) -> Reply:
    _, _, prefix, text = WIRES[name]
    calls = (
        ToolCall(f"{prefix}X", "weather", {"city": "Oslo", "days": 2}),
        ToolCall(f"{prefix}Y", "weather", {"city": "Tromsø"}),
    )
    return Reply(text, "tool_calls", Usage(2308, 71, 1800), MODELS[name], tool_calls=calls)


def streamed(name: str) -> bytes:
    return (FOLDER / f"{name}-tool-use.{WIRES[name][1]}").read_bytes()


def read(name: str, pieces: list[bytes], *, framed: bool = False) -> Reply:
    decoder = WIRES[name][0].decoder()
    said = "".join(map(decoder.feed, pieces))
    reply = decoder.end(framed=framed)
    assert said == reply.text
    return reply


@pytest.mark.parametrize("name", WIRES)
def test_whole_it_is_read_with_its_calls_and_tokens(name: str) -> None:
    assert WIRES[name][0].decode((FOLDER / f"{name}-tool-use.json").read_bytes()) == expected(name)


@pytest.mark.parametrize("name", WIRES)
def test_streamed_it_is_the_same_however_its_bytes_are_cut_into_pieces(name: str) -> None:
    body, dice = streamed(name), random.Random(3)
    assert read(name, [body]) == expected(name)
    assert read(name, [body[i : i + 1] for i in range(len(body))]) == expected(name)
    for _ in range(30):
        marks = [0, *sorted(dice.sample(range(len(body)), 6)), len(body)]
        assert read(name, [body[start:end] for start, end in pairwise(marks)]) == expected(name)


@pytest.mark.parametrize("name", WIRES)
def test_cut_at_any_byte_it_is_never_an_answer(name: str) -> None:
    body = streamed(name)
    decoder = WIRES[name][0].decoder()
    for at in range(len(body) - (1 if name == "anthropic" else 0)):
        with pytest.raises(TruncatedError):
            decoder.end(framed=False)
        decoder.feed(body[at : at + 1])


def test_a_changed_byte_of_an_event_stream_is_never_an_answer() -> None:
    body, dice = streamed("bedrock"), random.Random(8)
    for at in range(len(body)):
        changed = bytearray(body)
        changed[at] ^= 1 << dice.randrange(8)
        try:
            read("bedrock", [bytes(changed)], framed=True)
        except (BadResponseError, TruncatedError):
            continue
        raise AssertionError(f"byte {at} was changed and nobody saw it")


@pytest.mark.parametrize("name", WIRES)
def test_the_model_has_begun_when_it_says_or_calls_something(name: str) -> None:
    body, decoder = streamed(name), WIRES[name][0].decoder()
    begun = [(decoder.feed(body[i : i + 1]), decoder.begun)[1] for i in range(len(body))]
    assert not begun[0]
    assert begun[-1]
    assert begun == sorted(begun)


@pytest.mark.parametrize("name", WIRES)
def test_junk_in_a_stream_is_an_error_of_the_endpoint_or_of_the_stream(name: str) -> None:
    body, dice = streamed(name), random.Random(6)
    seen: set[type[CallError]] = set()
    for _ in range(2_000):
        at, size = dice.randrange(len(body)), dice.randrange(1, 40)
        junk = body[:at] + dice.randbytes(size) + body[at + size :]
        try:
            read(name, [junk])
        except CallError as error:
            seen.add(type(error))
    assert seen
