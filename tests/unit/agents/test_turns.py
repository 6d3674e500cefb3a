"""The turn machine, told by hand what came of each step."""

import json

import msgspec
import pytest
from pydantic import BaseModel

from aurora_swarm import Tool, errors
from aurora_swarm.agents.protocol import Said
from aurora_swarm.agents.steps import ConstrainedStep
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Ask, Rules, UseTools, converse
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply


class Out(BaseModel):
    word: str


@Tool.define(effect="pure")
def look(place: str) -> str:
    """Look somewhere."""
    return place


OUT = OutputSpec(Out)
START = (Message("system", "be brief"), Message("user", "what is it?"))
USE = '{"tool": "look", "arguments": {"place": "here"}}'
ANSWER = '{"answer": {"word": "stone"}}'


def rules(**changes):
    return Rules(output=OUT, protocol=ConstrainedStep([look], OUT), **changes)


def play(turns, *heard):
    """Feed a conversation; return the steps, and the answer when it ended."""
    steps = [next(turns)]
    for thing in heard:
        try:
            steps.append(turns.send(Reply(thing) if isinstance(thing, str) else thing))
        except StopIteration as end:
            return steps, end.value
    return steps, None


def test_without_tools_one_turn_answers():
    steps, answer = play(converse(Rules(output=OUT), START), '{"word": "stone"}')
    assert steps[0] == Ask(START, OUT.encoded, 0, 7)
    assert answer.value == Out(word="stone")
    assert (answer.turns, answer.repaired) == (1, False)


def test_a_tool_is_used_and_its_answer_stands_in_the_conversation():
    steps, answer = play(converse(rules(), START), USE, ["a stone"], ANSWER)
    assert isinstance(steps[1], UseTools)
    assert (steps[1].calls[0].name, steps[1].calls[0].arguments) == ("look", {"place": "here"})
    assert steps[2].messages == (*START, Message("assistant", USE), Message("tool", "a stone"))
    assert (answer.value, answer.turns) == (Out(word="stone"), 2)


def test_turns_left_count_down():
    steps, _ = play(converse(rules(max_turns=3), START), USE, ["x"], USE, ["y"])
    assert [s.turns_left for s in steps if isinstance(s, Ask)] == [2, 1, 0]


def test_the_last_turn_may_only_answer():
    steps, answer = play(converse(rules(max_turns=2), START), USE, ["x"], '{"word": "stone"}')
    assert steps[2].schema == OUT.encoded
    assert answer.value == Out(word="stone")


def test_on_the_last_turn_the_form_that_the_instructions_teach_is_understood_too():
    _, answer = play(converse(rules(max_turns=2), START), USE, ["x"], ANSWER)
    assert answer.value == Out(word="stone")


def test_a_required_tool_comes_before_the_answer():
    turns = converse(rules(tool_choice="required", max_turns=3), START)
    first = next(turns)
    assert "answer" not in msgspec.json.decode(first.schema)["properties"]
    corrected = turns.send(Reply(ANSWER))
    assert isinstance(corrected, Ask)
    assert "use a tool before you answer" in corrected.messages[-1].content
    assert isinstance(turns.send(Reply(USE)), UseTools)
    after = turns.send(["x"])
    assert "anyOf" in msgspec.json.decode(after.schema)


def test_an_invalid_answer_is_asked_again_with_the_error_and_no_tool_runs_again():
    steps, answer = play(converse(rules(), START), USE, ["x"], '{"answer": {"sound": 1}}', ANSWER)
    assert [type(s) for s in steps] == [Ask, UseTools, Ask, Ask]
    assert "word" in steps[3].messages[-1].content
    assert steps[3].turn == steps[2].turn
    assert answer.value == Out(word="stone")


def test_re_asks_are_bounded_and_the_last_text_is_kept():
    turns = converse(Rules(output=OUT, max_retries=2), START)
    next(turns)
    turns.send(Reply("bad 1"))
    turns.send(Reply("bad 2"))
    with pytest.raises(errors.InvalidOutputError) as caught:
        turns.send(Reply("bad 3"))
    assert caught.value.text == "bad 3"


def test_an_answer_that_was_cut_off_is_told_to_be_shorter():
    turns = converse(Rules(output=OUT), START)
    next(turns)
    again = turns.send(Reply('{"wo', finish_reason="length"))
    assert "be shorter" in again.messages[-1].content


def test_replaying_what_was_heard_leads_to_the_same_step():
    heard = [USE, ["x"], USE, ["y"]]
    first, _ = play(converse(rules(), START), *heard)
    second, _ = play(converse(rules(), START), *heard)
    assert first == second


@pytest.mark.parametrize(
    "text",
    ["", "hello", "{}", "[]", "null", '{"tool": "look"}', '{"tool": 1, "arguments": {}}',
     '{"answer": 1, "tool": "look"}', '{"tool": "look", "arguments": {}, "more": 1}'],
)  # fmt: skip
def test_what_is_no_step_is_told_so(text):
    with pytest.raises(errors.InvalidOutputError):
        ConstrainedStep([look], OUT).parse(text, call_id="c")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"name": "a: b", "more": '{"x": 1}'},
        {"name": True, "count": 2**70, "nothing": None},
        {"deep": [1, {"x": 2.5}]},
        {"share": 1.0},
        {"name": "caf\u00e9 \U0001f600 \ud800"},
    ],
)
def test_a_call_is_read_the_same_whatever_its_arguments_are(arguments):
    text = json.dumps({"tool": "look", "arguments": arguments}, indent=1)
    assert ConstrainedStep([look], OUT).parse(text, call_id="c") == ToolCall("c", "look", arguments)


@pytest.mark.parametrize("answer", ["", "yes", "no: {}", 1, 2.5, None, ["a"], {"answer": "b"}])
def test_an_answer_is_read_the_same_whatever_it_is(answer):
    said = ConstrainedStep([look], OUT).parse(json.dumps({"answer": answer}), call_id="c")
    assert said == Said(answer if isinstance(answer, str) else json.dumps(answer))


@pytest.mark.parametrize(
    "text",
    [
        '{"tool": "look", "tool": "other", "arguments": {}}',
        '{"tool": "look", "arguments": {"name": "a", "name": "b"}}',
        '{"tool": "look", "arguments": {"name": "a:b", "name": "b"}}',
        '{"answer": "a", "answer": "b"}',
        '{"answer": "a", "tool": "look", "arguments": {}}',
        '{"tool": "look"}',
        '{"tool": "look", "arguments": {}, "more": 1}',
        "{}",
    ],
)
def test_a_step_that_says_two_things_or_half_of_one_is_none(text):
    with pytest.raises(errors.InvalidOutputError):
        ConstrainedStep([look], OUT).parse(text, call_id="c")


def test_the_step_schema_offers_each_tool_and_the_answer():
    schema = json.loads(bytes(ConstrainedStep([look], OUT).schema(may_answer=True)))
    tool, answer = schema["anyOf"]
    assert tool["properties"]["tool"] == {"const": "look"}
    assert tool["properties"]["arguments"]["required"] == ["place"]
    assert answer["properties"]["answer"]["properties"]["word"]["type"] == "string"


def test_instructions_do_not_depend_on_what_one_agent_is_granted():
    limited = look.limit(place="{place}").bind({"place": "here"})
    assert ConstrainedStep([limited], OUT).instructions() == ConstrainedStep([look], OUT).instructions()
