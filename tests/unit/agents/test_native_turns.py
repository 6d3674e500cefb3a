"""The turn machine with the server's own tool calls, told by hand what came of each step."""

import msgspec
import pytest
from pydantic import BaseModel

from aurora_swarm import Tool, errors
from aurora_swarm.agents.calls import MALFORMED, MAX_CALLS
from aurora_swarm.agents.conversation import SILENT
from aurora_swarm.agents.native import NativeTools
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


OUT, TEXT = OutputSpec(Out), OutputSpec(None)
START = (Message("system", "be brief"), Message("user", "what is it?"))
ANSWER = Reply('{"word": "stone"}')


def start(output=OUT, **changes):
    turns = converse(Rules(output=output, protocol=NativeTools([look], output), **changes), START)
    return turns, next(turns)


def call(identity, place="here", name="look"):
    return ToolCall(identity, name, {"place": place})


def calling(*calls, text=""):
    return Reply(text, "tool_calls", tool_calls=calls)


def ended(turns, heard):
    with pytest.raises(StopIteration) as end:
        turns.send(heard)
    return end.value.value


def test_tools_are_offered_with_the_call_and_the_answer_is_not_constrained_beside_them():
    _, first = start()
    (tool,) = first.tools
    assert (tool.name, tool.description) == ("look", "Look somewhere.")
    assert msgspec.json.decode(tool.parameters)["required"] == ["place"]
    assert (first.schema, first.tool_choice) == (None, "auto")


def test_all_calls_of_a_reply_are_answered_in_order_right_after_it():
    turns, _ = start()
    step = turns.send(calling(call("a"), call("b", "there"), text="I look."))
    assert step == UseTools((call("a"), call("b", "there")))
    after = turns.send(["a stone", "nothing"])
    assert after.messages == (
        *START,
        Message("assistant", "I look.", tool_calls=(call("a"), call("b", "there"))),
        Message("tool", "a stone", "a"),
        Message("tool", "nothing", "b"),
    )
    assert ended(turns, ANSWER).value == Out(word="stone")


def test_ids_that_come_back_or_are_empty_are_made_unique():
    turns, _ = start()
    first = turns.send(calling(call("a"), call("a"), call("")))
    assert [c.id for c in first.calls] == ["a", "call_0_1", "call_0_2"]
    turns.send(["x"] * 3)
    second = turns.send(calling(call("a"), call("call_0_1"), call("b")))
    assert [c.id for c in second.calls] == ["call_1_0", "call_1_1", "b"]


def test_ids_that_providers_would_make_equal_are_told_apart():
    turns, _ = start()
    step = turns.send(calling(call("functions.look:0"), call("functions_look:0")))
    assert [c.id for c in step.calls] == ["functions.look:0", "call_0_1"]


def test_a_call_of_a_tool_that_was_not_offered_is_refused_and_not_run():
    turns, _ = start()
    step = turns.send(calling(call("a", name="rm"), call("b"), call("c", name="")))
    assert step == UseTools((call("b"),))
    told = turns.send(["a stone"]).messages[len(START) :]
    assert [(m.tool_call_id, m.content[:34]) for m in told[1:]] == [
        ("a", "refused: there is no tool 'rm'; th"),
        ("b", "a stone"),
        ("c", "refused: there is no tool ''; ther"),
    ]
    assert [c.name for c in told[0].tool_calls] == ["rm", "look", "unknown"]


def test_where_no_call_may_run_the_model_is_asked_again_at_once():
    turns, _ = start()
    step = turns.send(calling(call("a", name="rm")))
    assert isinstance(step, Ask)
    assert step.turn == 1


def test_malformed_arguments_are_answered_to_the_model():
    turns, _ = start()
    step = turns.send(calling(ToolCall("a", "look", {MALFORMED: '{"place": "he'})))
    assert isinstance(step, Ask)
    assert step.messages[-1].content.startswith('refused: the arguments are no JSON object: \'{"place": "he\'')
    assert step.messages[-2].tool_calls[0].arguments == {}


def test_more_calls_than_are_sensible_are_refused():
    turns, _ = start()
    step = turns.send(calling(*(call(f"c{n}") for n in range(MAX_CALLS + 2))))
    assert len(step.calls) == MAX_CALLS
    after = turns.send(["x"] * MAX_CALLS)
    assert [m.content[:7] for m in after.messages[-3:]] == ["x", "refused", "refused"]


def test_the_last_turn_lists_the_tools_and_may_call_none():
    turns, _ = start(max_turns=2)
    turns.send(calling(call("a")))
    last = turns.send(["x"])
    assert (last.tool_choice, last.schema, len(last.tools)) == ("none", OUT.encoded, 1)
    again = turns.send(calling(call("b")))
    assert isinstance(again, Ask), "a call on the last turn is not run"
    assert again.messages[-2] == Message("assistant", SILENT)
    assert ended(turns, ANSWER).turns == 2


def test_a_single_turn_offers_no_tools_at_all():
    _, only = start(max_turns=1)
    assert (only.tools, only.schema) == ((), OUT.encoded)


def test_an_invalid_answer_is_asked_again_constrained_and_no_tool_is_run_for_it():
    turns, _ = start()
    turns.send(calling(call("a")))
    turns.send(["x"])
    again = turns.send(Reply("It is a stone."))
    assert (again.schema, again.tool_choice, again.turn) == (OUT.encoded, "none", 1)
    third = turns.send(calling(call("b"), text="still no JSON"))
    assert isinstance(third, Ask)
    assert third.messages[-2] == Message("assistant", "still no JSON")
    assert ended(turns, ANSWER).value == Out(word="stone")


def test_a_reply_that_says_nothing_may_still_use_tools_when_it_is_asked_again():
    turns, _ = start()
    again = turns.send(Reply(""))
    assert (again.tool_choice, again.messages[-2].content) == ("auto", SILENT)
    assert isinstance(turns.send(calling(call("a"))), UseTools)


def test_a_required_tool_comes_before_the_answer():
    turns, first = start(tool_choice="required")
    assert first.tool_choice == "required"
    again = turns.send(ANSWER)
    assert (again.tool_choice, again.schema) == ("required", None)
    turns.send(calling(call("a")))
    assert turns.send(["x"]).tool_choice == "auto"


def test_free_text_is_an_answer():
    turns, _ = start(TEXT)
    assert ended(turns, Reply("a stone")).value == "a stone"


def test_re_asks_are_bounded():
    turns, _ = start(max_retries=1)
    turns.send(Reply("bad"))
    with pytest.raises(errors.InvalidOutputError):
        turns.send(Reply("worse"))


def test_text_that_no_wire_carries_is_made_readable():
    turns, _ = start()
    turns.send(calling(call("a"), text="half \ud800"))
    step = turns.send(["also \udfff"])
    assert [m.content for m in step.messages[-2:]] == ["half ?", "also ?"]


def test_arguments_that_no_wire_carries_reach_the_tool_and_are_left_out_of_the_conversation():
    turns, _ = start()
    step = turns.send(calling(call("a", "\ud800")))
    assert step.calls[0].arguments == {"place": "\ud800"}
    assert turns.send(["x"]).messages[-2].tool_calls[0].arguments == {}


def test_the_offers_are_the_same_objects_for_all_agents():
    protocol = NativeTools([look], OUT)
    one = next(converse(Rules(output=OUT, protocol=protocol), START))
    other = next(converse(Rules(output=OUT, protocol=protocol), START))
    assert one.tools is other.tools
