"""Tool calls over OpenAI's protocol: what is offered, what is read, and that nothing that a model writes is lost."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from aurora_swarm.testing import answers
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.tool_calls import MALFORMED, PartialCalls, arguments_of, plain_id, told_apart
from aurora_swarm.transports.wire import Wire
from aurora_swarm.values.call import Call, OfferedTool, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply

USER = Message("user", "hi")
SCHEMA = msgspec.Raw(b'{"type": "object", "properties": {"a": {"type": "integer"}}}')
TOOLS = (OfferedTool("add", "Adds.", SCHEMA), OfferedTool("look", "", msgspec.Raw(b"{}")))


def sent(body: bytes) -> Any:
    return msgspec.json.decode(body)


def answer(*calls: Any, content: str | None = None, finish_reason: str = "tool_calls") -> bytes:
    value = answers.chat(content, finish_reason=finish_reason)
    value["choices"][0]["message"]["tool_calls"] = list(calls)
    return answers.encode(value)


def called(arguments: Any, identity: str | None = "c1", name: str | None = "add") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tools_are_offered_with_their_schemas() -> None:
    body = sent(OpenAIChatWire().encode(Call((USER,), tools=TOOLS), "m"))
    assert body["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "Adds.",
                "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
            },
        },
        {"type": "function", "function": {"name": "look", "description": "", "parameters": {}}},
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize("choice", ["required", "none"])
def test_a_choice_is_sent_with_tools_only(choice: Any) -> None:
    wire = OpenAIChatWire()
    assert sent(wire.encode(Call((USER,), tools=TOOLS, tool_choice=choice), "m"))["tool_choice"] == choice
    assert "tool_choice" not in sent(wire.encode(Call((USER,), tool_choice=choice), "m"))


def test_a_wire_that_is_used_for_calls_of_many_kinds_never_mixes_them_up() -> None:
    dice, wire = random.Random(5), OpenAIChatWire()
    samplings = [Sampling(), Sampling(max_tokens=3), Sampling(temperature=0.0)]
    for _ in range(500):
        call = Call(
            (Message("user", str(dice.random())),),
            sampling=dice.choice(samplings),
            schema=dice.choice([None, SCHEMA]),
            tools=dice.choice([(), TOOLS, TOOLS[:1]]),
            tool_choice=dice.choice(["auto", "required", "none"]),
        )
        model = dice.choice(["m", "n"])
        assert wire.encode(call, model) == OpenAIChatWire().encode(call, model)


def test_calls_are_read_in_their_order() -> None:
    reply = OpenAIChatWire().decode(answer(called('{"a": 1}'), called('{"a": 2}', "c2")))
    assert reply.tool_calls == (ToolCall("c1", "add", {"a": 1}), ToolCall("c2", "add", {"a": 2}))
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize(
    ("said", "meant"), [("stop", "tool_calls"), ("function_call", "tool_calls"), ("length", "length")]
)
def test_calls_are_a_reason_to_end_whatever_the_server_says(said: str, meant: str) -> None:
    assert OpenAIChatWire().decode(answer(called("{}"), finish_reason=said)).finish_reason == meant


@pytest.mark.parametrize("nothing", [None, [], "absent"])
def test_no_calls_are_no_calls(nothing: Any) -> None:
    value = answers.chat("hello")
    if nothing != "absent":
        value["choices"][0]["message"]["tool_calls"] = nothing
    assert OpenAIChatWire().decode(answers.encode(value)) == OpenAIChatWire().decode(
        answers.encode(answers.chat("hello"))
    )


@pytest.mark.parametrize("arguments", ["", "  ", "null", "{}", None, {}])
def test_arguments_may_be_none(arguments: Any) -> None:
    assert OpenAIChatWire().decode(answer(called(arguments))).tool_calls[0].arguments == {}


def test_a_server_may_write_arguments_as_an_object() -> None:
    assert OpenAIChatWire().decode(answer(called({"a": 1}))).tool_calls[0].arguments == {"a": 1}


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", "7", '"a"', "{'a': 1}", '{"a": NaN}', "a=1", "[" * 100_000])
def test_arguments_that_are_no_object_reach_the_agent_as_they_are(text: str) -> None:
    assert OpenAIChatWire().decode(answer(called(text))).tool_calls[0].arguments == {MALFORMED: text}


def test_what_came_unreadable_is_sent_back_as_valid_json() -> None:
    asked = Message("assistant", "", tool_calls=(ToolCall("c1", "add", arguments_of('{"a": 1')),))
    body = sent(OpenAIChatWire().encode(Call((asked,), tools=TOOLS), "m"))
    arguments = body["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert msgspec.json.decode(arguments) == {MALFORMED: '{"a": 1'}


@pytest.mark.parametrize("identities", [["", "", ""], ["x", "x", "x"], ["call_1", "", "call_1"], [None, "call_0", ""]])
def test_every_call_has_an_id_of_its_own(identities: list[str | None]) -> None:
    reply = OpenAIChatWire().decode(answer(*(called("{}", identity) for identity in identities)))
    assert len({call.id for call in reply.tool_calls}) == len(identities)
    assert all(call.id for call in reply.tool_calls)


def test_ids_that_are_told_apart_stay_what_they_are() -> None:
    calls = (ToolCall("b", "x", {}), ToolCall("a", "y", {}))
    assert told_apart(calls) == calls


def test_an_id_is_plain_for_every_provider_and_the_same_each_time() -> None:
    assert plain_id("call:1/ü") == plain_id("call:1/ü") == "call_1__"
    assert len(plain_id("x" * 100)) == 64
    assert plain_id("toolu_01-A") == "toolu_01-A"


# -- streamed -------------------------------------------------------------------------------------------------------


def stream(pieces: list[list[dict[str, Any]]], finish_reason: str = "tool_calls") -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": piece}, "finish_reason": None}]} for piece in pieces]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    return answers.events([*map(answers.encode, chunks), b"[DONE]"])


def read(body: bytes) -> Reply:
    decoder = OpenAIChatWire().decoder()
    assert not decoder.begun
    assert decoder.feed(body) == ""
    assert decoder.begun
    return decoder.end(framed=False)


def test_streamed_calls_are_put_together_by_index() -> None:
    body = stream(
        [
            [{"index": 1, "id": "c2", "function": {"name": "look", "arguments": '{"b"'}}],
            [{"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}],
            [{"index": 0, "function": {"arguments": '{"a"'}}, {"index": 1, "function": {"arguments": ": 2}"}}],
            [{"index": 0, "function": {"arguments": ": 1}"}}],
        ]
    )
    reply = read(body)
    assert reply.tool_calls == (ToolCall("c1", "add", {"a": 1}), ToolCall("c2", "look", {"b": 2}))
    assert reply.finish_reason == "tool_calls"


def test_a_call_cut_off_by_the_bound_on_tokens_keeps_what_there_is() -> None:
    body = stream([[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a": '}}]], "length")
    reply = read(body)
    assert reply.tool_calls == (ToolCall("c1", "add", {MALFORMED: '{"a": '}),)
    assert reply.finish_reason == "length"


def test_servers_that_give_no_index_tell_calls_by_their_ids() -> None:
    parts = PartialCalls()
    assert not parts
    for identity, name, text in (("a", "x", '{"n"'), ("", "", ": 1}"), ("b", "y", "{}"), ("b", "", "")):
        parts.add(None, identity, name, text)
    assert parts.whole() == (ToolCall("a", "x", {"n": 1}), ToolCall("b", "y", {}))


def test_of_a_hundred_thousand_generated_answers_every_transcript_can_be_sent_and_read_again() -> None:
    dice = random.Random(11)
    texts = ["{}", '{"a": 1}', '{"a": ', "", "null", "[]", "\x00", '{"a": "🐝"}', "}{"]
    names = ["add", "", "no such tool", "add\n", "🐝"]
    wires: list[Wire] = [OpenAIChatWire()]
    for _ in range(100_000):
        body = answer(
            *(
                called(dice.choice(texts), dice.choice(["", "a", "b", None]), dice.choice(names))
                for _ in range(dice.randrange(4))
            ),
            content=dice.choice([None, "", "text"]),
            finish_reason=dice.choice(["stop", "tool_calls", "length"]),
        )
        reply = wires[0].decode(body)
        identities = [call.id for call in reply.tool_calls]
        assert len(set(identities)) == len(identities)
        if reply.tool_calls and dice.random() < 0.1:
            asked = Message("assistant", reply.text, tool_calls=reply.tool_calls)
            told = [Message("tool", "x", tool_call_id=identity) for identity in identities]
            messages = sent(wires[0].encode(Call((asked, *told), tools=TOOLS), "m"))["messages"]
            assert [each["id"] for each in messages[0]["tool_calls"]] == [m["tool_call_id"] for m in messages[1:]]
            assert all(isinstance(sent(c["function"]["arguments"].encode()), dict) for c in messages[0]["tool_calls"])
