"""What goes to Anthropic, and what is made of what comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from aurora_swarm.errors import AbortedError, BadResponseError, RequestRejectedError
from aurora_swarm.testing import answers, provider_answers
from aurora_swarm.transports.anthropic import AnthropicWire
from aurora_swarm.transports.provider import constrainable
from aurora_swarm.transports.tool_calls import MALFORMED
from aurora_swarm.values.call import Call, OfferedTool, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Usage

MARK = {"type": "ephemeral"}
SYSTEM, USER = Message("system", "Be brief."), Message("user", "hi")
TOOLS = (
    OfferedTool("add", "Adds.", msgspec.Raw(b'{"type": "object"}')),
    OfferedTool("look", "Looks.", msgspec.Raw(b'{"type": "object"}')),
)


def sent(call: Call, model: str = "m") -> Any:
    body = msgspec.json.decode(AnthropicWire().encode(call, model))
    streamed = msgspec.json.decode(AnthropicWire().encode_stream(call, model))
    assert streamed == {**body, "stream": True}
    return body


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def test_a_prompt_is_sent_with_a_bound_that_every_model_takes() -> None:
    assert sent(Call((USER,))) == {
        "model": "m",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [text("hi")]}],
    }


def test_sampling_is_sent_in_its_words_and_a_seed_is_not() -> None:
    body = sent(Call((USER,), sampling=Sampling(9, 0.5, 0.9, 7, ("END",))))
    assert {key: body[key] for key in ("max_tokens", "temperature", "top_p", "stop_sequences")} == {
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
    }
    assert "seed" not in body


def test_what_agents_share_is_marked_for_the_cache() -> None:
    body = sent(Call((SYSTEM, Message("system", "Be kind."), USER), tools=TOOLS))
    assert body["system"] == [text("Be brief."), {**text("Be kind."), "cache_control": MARK}]
    assert [tool.get("cache_control") for tool in body["tools"]] == [None, MARK]
    assert "cache_control" not in body


def test_the_end_of_a_conversation_is_marked_where_another_turn_may_follow() -> None:
    assert sent(Call((USER,), turns_left=1))["cache_control"] == MARK


def test_tools_and_their_choice_are_sent_in_its_words() -> None:
    assert sent(Call((USER,), tools=TOOLS))["tools"][0] == {
        "name": "add",
        "description": "Adds.",
        "input_schema": {"type": "object"},
    }
    assert "tool_choice" not in sent(Call((USER,), tools=TOOLS))
    assert sent(Call((USER,), tools=TOOLS, tool_choice="required"))["tool_choice"] == {"type": "any"}
    assert sent(Call((USER,), tools=TOOLS, tool_choice="none"))["tool_choice"] == {"type": "none"}
    assert "tool_choice" not in sent(Call((USER,), tool_choice="required"))


def test_the_answers_to_all_calls_of_a_turn_are_one_message() -> None:
    asked = Message("assistant", "", tool_calls=(ToolCall("a", "add", {"x": 1}), ToolCall("b:2", "look", {})))
    told = (Message("tool", "one", tool_call_id="a"), Message("tool", "two", tool_call_id="b:2"))
    messages = sent(Call((USER, asked, *told, Message("user", "go on")), tools=TOOLS))["messages"]
    assert messages[1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "add", "input": {"x": 1}},
                {"type": "tool_use", "id": "b_2", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "one"},
                {"type": "tool_result", "tool_use_id": "b_2", "content": "two"},
                text("go on"),
            ],
        },
    ]


def test_without_tools_a_conversation_with_calls_is_told_in_words() -> None:
    asked = Message("assistant", "Wait.", tool_calls=(ToolCall("a", "add", {"x": 1}),))
    messages = sent(Call((USER, asked, Message("tool", "one", tool_call_id="a"))))["messages"]
    assert messages[1:] == [
        {"role": "assistant", "content": [text('Wait.\n[called add with {"x":1}]')]},
        {"role": "user", "content": [text("one")]},
    ]


def test_a_tools_text_that_answers_no_call_is_the_users() -> None:
    messages = sent(Call((USER, Message("assistant", "a"), Message("tool", "{x} 42"))))["messages"]
    assert messages[2] == {"role": "user", "content": [text("{x} 42")]}


def test_an_answer_is_constrained_to_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 9, "description": "Its name."},
            "kind": {"oneOf": [{"const": "a"}, {"type": "null"}]},
            "parts": {"type": "array", "items": {"$ref": "#/$defs/Part"}, "minItems": 1, "maxItems": 3},
        },
        "required": ["name"],
        "additionalProperties": True,
        "$defs": {"Part": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "title": "Part"}},
    }
    format_ = sent(Call((USER,), schema=msgspec.Raw(msgspec.json.encode(schema))))["output_config"]["format"]
    assert format_ == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Its name. (maxLength: 9)"},
                "kind": {"anyOf": [{"const": "a"}, {"type": "null"}]},
                "parts": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/Part"},
                    "minItems": 1,
                    "description": "(maxItems: 3)",
                },
            },
            "required": ["name"],
            "additionalProperties": False,
            "$defs": {
                "Part": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "description": "(minimum: 0)"}},
                    "title": "Part",
                    "additionalProperties": False,
                }
            },
        },
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"}}}},
        {
            "$ref": "#/$defs/A",
            "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/B"}]}, "B": {"items": {"$ref": "#/$defs/A"}}},
        },
        {"properties": {"again": {"$ref": "#"}}},
        True,
    ],
    ids=["any object", "a map", "within itself", "the root again", "anything"],
)
def test_a_schema_that_it_cannot_constrain_to_is_left_to_validation(schema: Any) -> None:
    raw = msgspec.Raw(msgspec.json.encode(schema))
    assert constrainable(raw) is None
    assert "output_config" not in sent(Call((USER,), schema=raw))


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = {"type": "object", "properties": {"properties": {"type": "string"}, "oneOf": {"type": "integer"}}}
    assert constrainable(msgspec.Raw(msgspec.json.encode(schema))) == {**schema, "additionalProperties": False}


def test_tokens_from_and_to_the_cache_are_tokens_of_the_prompt() -> None:
    value = provider_answers.anthropic("a b", prompt="p q r")
    value["usage"] |= {"cache_creation_input_tokens": 10, "cache_read_input_tokens": 100}
    assert AnthropicWire().decode(answers.encode(value)).usage == Usage(113, 2, 100)
    value["usage"] = {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": None}
    assert AnthropicWire().decode(answers.encode(value)).usage == Usage(3, 2, 0)
    del value["usage"]
    assert AnthropicWire().decode(answers.encode(value)).usage == Usage()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "something_new"),
    ],
)
def test_its_reasons_are_told_in_ours(said: str, meant: str) -> None:
    assert (
        AnthropicWire().decode(answers.encode(provider_answers.anthropic("a", stop_reason=said))).finish_reason == meant
    )


def test_an_answer_that_stands_still_is_none() -> None:
    value = provider_answers.anthropic("a", stop_reason="pause_turn")
    with pytest.raises(AbortedError):
        AnthropicWire().decode(answers.encode(value))
    decoder = AnthropicWire().decoder()
    decoder.feed(provider_answers.anthropic_stream(value))
    with pytest.raises(AbortedError):
        decoder.end(framed=True)


def test_input_that_is_no_object_is_a_bad_response_whole_and_data_when_streamed() -> None:
    value = provider_answers.anthropic("", calls=[("add", {})])
    value["content"][0]["input"] = "x"
    with pytest.raises(BadResponseError):
        AnthropicWire().decode(answers.encode(value))
    decoder = AnthropicWire().decoder()
    decoder.feed(provider_answers.anthropic_stream(value))
    (call,) = decoder.end(framed=True).tool_calls
    assert call.arguments == {MALFORMED: '"x"'}


def test_a_lone_surrogate_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(RequestRejectedError, match="surrogate"):
        AnthropicWire().encode(Call((Message("user", "a\ud800"),)), "m")
