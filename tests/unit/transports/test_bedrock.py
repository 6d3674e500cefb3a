"""What goes to Bedrock, and what is made of what comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aurora_swarm.errors import AbortedError, BadResponseError
from aurora_swarm.testing import answers, provider_answers
from aurora_swarm.transports.bedrock import ANSWER, BedrockWire
from aurora_swarm.transports.event_stream import EventStreamParser
from aurora_swarm.values.call import Call, OfferedTool, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Usage

POINT = {"cachePoint": {"type": "default"}}
CLAUDE, NOVA, LLAMA = "us.anthropic.claude-x-v1:0", "amazon.nova-pro-v1:0", "meta.llama3-1-70b-instruct-v1:0"
SYSTEM, USER = Message("system", "Be brief."), Message("user", "hi")
TOOLS = (OfferedTool("add", "Adds.", msgspec.Raw(b'{"type": "object"}')), OfferedTool("look", "", msgspec.Raw(b"{}")))
OBJECT = msgspec.Raw(b'{"type": "object", "properties": {"answer": {"type": "integer"}}}')
LIST = msgspec.Raw(b'{"type": "array", "items": {"$ref": "#/$defs/N"}, "$defs": {"N": {"type": "integer"}}}')


def sent(call: Call, model: str = LLAMA) -> Any:
    assert BedrockWire().encode_stream(call, model) == BedrockWire().encode(call, model)
    return msgspec.json.decode(BedrockWire().encode(call, model))


def test_a_prompt_is_sent_alone() -> None:
    assert sent(Call((USER,))) == {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}


def test_sampling_is_sent_in_its_words_and_a_seed_is_not() -> None:
    assert sent(Call((USER,), sampling=Sampling(9, 0.5, 0.9, 7, ("END",))))["inferenceConfig"] == {
        "maxTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["END"],
    }


@pytest.mark.parametrize(
    ("model", "system", "tools", "said"),
    [
        (CLAUDE, [POINT], [POINT], [POINT]),
        (NOVA, [POINT], [], [POINT]),
        (LLAMA, [], [], []),
    ],
)
def test_models_with_a_prompt_cache_get_marks_and_no_others(model: str, system: Any, tools: Any, said: Any) -> None:
    body = sent(Call((SYSTEM, USER), tools=TOOLS, turns_left=1), model)
    assert body["system"] == [{"text": "Be brief."}, *system]
    assert body["toolConfig"]["tools"][2:] == tools
    assert body["messages"][-1]["content"] == [{"text": "hi"}, *said]
    assert sent(Call((USER,)), model)["messages"][-1]["content"] == [{"text": "hi"}]


def test_tools_and_their_choice_are_sent_in_its_words() -> None:
    config = sent(Call((USER,), tools=TOOLS))["toolConfig"]
    assert config == {
        "tools": [
            {"toolSpec": {"name": "add", "description": "Adds.", "inputSchema": {"json": {"type": "object"}}}},
            {"toolSpec": {"name": "look", "inputSchema": {"json": {}}}},
        ]
    }
    assert sent(Call((USER,), tools=TOOLS, tool_choice="required"))["toolConfig"]["toolChoice"] == {"any": {}}
    assert "toolChoice" not in sent(Call((USER,), tools=TOOLS, tool_choice="none"))["toolConfig"]


def test_calls_and_their_answers_are_sent_in_its_words() -> None:
    asked = Message("assistant", "Wait.", tool_calls=(ToolCall("a", "add", {"x": 1}), ToolCall("b", "look", {})))
    told = (Message("tool", "one", tool_call_id="a"), Message("tool", "two", tool_call_id="b"))
    assert sent(Call((USER, asked, *told), tools=TOOLS))["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"text": "Wait."},
                {"toolUse": {"toolUseId": "a", "name": "add", "input": {"x": 1}}},
                {"toolUse": {"toolUseId": "b", "name": "look", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": "one"}]}},
                {"toolResult": {"toolUseId": "b", "content": [{"text": "two"}]}},
            ],
        },
    ]


def test_without_tools_a_conversation_with_calls_is_told_in_words() -> None:
    asked = Message("assistant", "", tool_calls=(ToolCall("a", "add", {}),))
    messages = sent(Call((USER, asked, Message("tool", "one", tool_call_id="a"))))["messages"]
    assert [message["content"] for message in messages[1:]] == [[{"text": "[called add with {}]"}], [{"text": "one"}]]


@pytest.mark.parametrize(
    ("tools", "choice", "wanted"),
    [
        ((), "auto", {"tool": {"name": ANSWER}}),
        (TOOLS, "none", {"tool": {"name": ANSWER}}),
        (TOOLS, "auto", {"any": {}}),
        (TOOLS, "required", {"any": {}}),
    ],
)
def test_an_answer_by_a_schema_is_asked_for_as_a_call(tools: Any, choice: Any, wanted: Any) -> None:
    config = sent(Call((USER,), schema=OBJECT, tools=tools, tool_choice=choice))["toolConfig"]
    assert config["toolChoice"] == wanted
    assert config["tools"][-1]["toolSpec"]["inputSchema"]["json"] == msgspec.json.decode(OBJECT)
    assert len(config["tools"]) == len(tools) + 1


@pytest.mark.parametrize(("schema", "value"), [(OBJECT, {"answer": 4}), (LIST, [1, 2])])
def test_an_answer_by_a_schema_is_a_text_again(schema: msgspec.Raw, value: Any) -> None:
    shape = sent(Call((USER,), schema=schema))["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    (wrapper,) = shape["properties"]
    arguments = value if isinstance(value, dict) else {wrapper: value}
    body = provider_answers.converse("Here you are.", calls=[(ANSWER, arguments)])
    reply = BedrockWire().decode(answers.encode(body))
    assert (msgspec.json.decode(reply.text), reply.finish_reason, reply.tool_calls) == (value, "stop", ())
    decoder = BedrockWire().decoder()
    decoder.feed(provider_answers.converse_stream(body))
    assert decoder.end(framed=True) == reply


def test_the_definitions_of_a_list_stay_where_references_point_to() -> None:
    shape = sent(Call((USER,), schema=LIST))["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
    assert shape["$defs"] == {"N": {"type": "integer"}}


def test_an_answer_beside_calls_came_too_early() -> None:
    body = provider_answers.converse("", calls=[(ANSWER, {"answer": 1}), ("add", {"x": 1})])
    reply = BedrockWire().decode(answers.encode(body))
    assert [call.name for call in reply.tool_calls] == ["add"]
    assert reply.finish_reason == "tool_calls"


def test_an_answer_that_is_cut_off_is_what_there_is_of_it() -> None:
    body = provider_answers.converse("", calls=[(ANSWER, {"answer": 12345})], stop_reason="max_tokens")
    stream = provider_answers.converse_stream(body, piece=6)
    pieces = EventStreamParser().feed(stream)
    decoder = BedrockWire().decoder()
    cut = [p for p in pieces if b'"input":' in p.payload][1:]
    for message in pieces:
        if message not in cut:
            decoder.feed(
                provider_answers.event_message(message.headers[":event-type"], msgspec.json.decode(message.payload))
            )
    reply = decoder.end(framed=True)
    assert (reply.text, reply.finish_reason) == ('{"answ', "length")


def test_tokens_from_and_to_the_cache_are_tokens_of_the_prompt() -> None:
    value = provider_answers.converse("a b", prompt="p q r")
    value["usage"] |= {"cacheWriteInputTokens": 10, "cacheReadInputTokens": 100}
    assert BedrockWire().decode(answers.encode(value)).usage == Usage(113, 2, 100)
    value["usage"] = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    assert BedrockWire().decode(answers.encode(value)).usage == Usage(3, 2, 0)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
    ],
)
def test_its_reasons_are_told_in_ours(said: str, meant: str) -> None:
    assert BedrockWire().decode(answers.encode(provider_answers.converse("a", stop_reason=said))).finish_reason == meant


@pytest.mark.parametrize("reason", ["malformed_model_output", "malformed_tool_use"])
def test_what_the_service_could_not_read_is_no_answer(reason: str) -> None:
    with pytest.raises(AbortedError):
        BedrockWire().decode(answers.encode(provider_answers.converse("a", stop_reason=reason)))


# -- the event stream -----------------------------------------------------------------------------------------------

# A message that is used as a test vector by Amazon's own client libraries.
VECTOR = (
    b"\x00\x00\x00=\x00\x00\x00 \x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json"
    b"{'foo':'bar'}\x8d\x9c\x08\xb1"
)


def test_amazons_test_vector_is_read() -> None:
    assert EventStreamParser().feed(VECTOR) == [({"content-type": "application/json"}, b"{'foo':'bar'}")]


def test_headers_of_every_type_are_passed_over() -> None:
    values = {
        0: b"",
        1: b"",
        2: b"\x01",
        3: b"\x01" * 2,
        4: b"\x01" * 4,
        5: b"\x01" * 8,
        8: b"\x01" * 8,
        9: b"\x01" * 16,
    }
    head = b"".join(b"\x01h" + bytes([kind]) + value for kind, value in values.items())
    head += b"\x01b\x06\x00\x02xy" + b"\x01t\x07\x00\x02ok"
    assert EventStreamParser().feed(message_of(head, b"p")) == [({"t": "ok"}, b"p")]


@pytest.mark.parametrize("head", [b"\x01h\x0a", b"\x05h", b"\x01t\x07", b"\x01t\x07\x00\x01\xff"])
def test_headers_that_cannot_be_read_are_a_bad_response(head: bytes) -> None:
    with pytest.raises(BadResponseError, match="headers"):
        EventStreamParser().feed(message_of(head, b""))


@pytest.mark.parametrize(("length", "headers"), [(15, 0), (16, 1), (2**31, 0)])
def test_lengths_that_cannot_be_are_a_bad_response(length: int, headers: int) -> None:
    prelude = length.to_bytes(4, "big") + headers.to_bytes(4, "big")
    with pytest.raises(BadResponseError, match="claims"):
        EventStreamParser().feed(prelude + crc(prelude))


def message_of(head: bytes, payload: bytes) -> bytes:
    prelude = (16 + len(head) + len(payload)).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    whole = prelude + crc(prelude) + head + payload
    return whole + crc(whole)


def crc(data: bytes) -> bytes:
    import zlib

    return zlib.crc32(data).to_bytes(4, "big")
