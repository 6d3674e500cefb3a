"""Conversations that would outgrow the context."""

from itertools import pairwise

import pytest

from aurora_swarm import errors
from aurora_swarm.agents.compaction import SUMMARISE, ContextRule
from aurora_swarm.agents.native import NativeTools
from aurora_swarm.agents.steps import ConstrainedStep
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Ask, Rules, converse
from aurora_swarm.tools.definition import Tool
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply


@Tool.define(effect="pure")
def look(place: str) -> str:
    """Look somewhere."""
    return place


TEXT = OutputSpec(None)
START = (Message("system", "be brief"), Message("user", "what is where?"))
USE = '{"tool": "look", "arguments": {"place": "p%d"}}'


def tokens(messages):
    return sum(len(m.content) for m in messages) // 4


def talk(limit, answers, *, by="heuristic", native=True, summary="p0 has a stone."):
    """Lead a conversation with one call and one answer per turn; return what was asked."""
    protocol = (NativeTools if native else ConstrainedStep)([look], TEXT)
    rules = Rules(output=TEXT, protocol=protocol, max_turns=50, context=ContextRule(limit, tokens, by))
    turns = converse(rules, START)
    asked = [next(turns)]
    for place, answer in enumerate(answers):
        if native:
            heard = Reply("", tool_calls=(ToolCall(f"c{place}", "look", {"place": f"p{place}"}),))
        else:
            heard = Reply(USE % place)
        turns.send(heard)
        step = turns.send([answer])
        while isinstance(step, Ask) and step.purpose == "summary":
            asked.append(step)
            step = turns.send(Reply(summary))
        asked.append(step)
    return asked


def answers_in(ask):
    return [message.content for message in ask.messages if message.role == "tool"]


def test_what_fits_stays_as_it_is():
    asked = talk(1000, ["a stone"] * 5)
    assert answers_in(asked[-1]) == ["a stone"] * 5


@pytest.mark.parametrize("native", [True, False])
def test_system_prompt_and_task_stay_in_front_and_every_turn_fits(native):
    for ask in talk(300, ["a stone " * 80] * 20, native=native):
        assert ask.messages[:2] == START
        assert tokens(ask.messages) <= 300


def test_older_answers_are_shortened_first_and_the_newest_is_whole():
    long = "a" * 1000 + "z" * 1000
    asked = talk(1200, [long] * 3)
    first, *_, last = answers_in(asked[-1])
    assert last == long
    assert first.startswith("aaa")
    assert first.endswith("zzz")
    assert "[1600 of 2000 characters are left out here, to stay within the model's context]" in first


def test_then_the_oldest_steps_are_left_out_and_the_conversation_says_so():
    asked = talk(300, ["a stone " * 40] * 12)
    stub, note = asked[-1].messages[2:4]
    assert (stub.role, note.role) == ("assistant", "user")
    assert stub.content.startswith('Earlier steps, in short: look({"place":"p0"}); look({"place":"p1"})')
    count = int(note.content.removeprefix("[").split()[0])
    assert count + len(answers_in(asked[-1])) == 12
    assert "outgrow the model's context of about 300 tokens" in note.content


def test_at_last_the_newest_answer_itself_is_shortened():
    asked = talk(300, ["x" * 50_000])
    (answer,) = answers_in(asked[-1])
    assert "characters are left out here" in answer
    assert 100 < tokens(asked[-1].messages) <= 300


def test_it_is_made_clearly_shorter_than_it_must_be_so_that_it_is_not_shortened_at_every_turn():
    asked = talk(400, ["a stone " * 20] * 30)
    begins = [ask.messages[2:4] for ask in asked if len(ask.messages) > 4]
    changes = sum(one != other for one, other in pairwise(begins))
    assert 0 < changes <= len(begins) // 2


def test_huge_arguments_are_shortened_too():
    protocol = NativeTools([look], TEXT)

    def with_calls(messages):
        return tokens(messages) + sum(len(str(call.arguments)) // 4 for m in messages for call in m.tool_calls)

    turns = converse(Rules(output=TEXT, protocol=protocol, context=ContextRule(300, with_calls)), START)
    next(turns)
    turns.send(Reply("", tool_calls=(ToolCall("c", "look", {"place": "x" * 9000}),)))
    ask = turns.send(["nothing"])
    assert ask.messages[2].tool_calls[0].arguments == {
        "left_out": "9012 characters, to stay within the model's context"
    }
    assert with_calls(ask.messages) <= 300


def test_a_model_sums_up_the_older_steps():
    asked = talk(300, ["a stone " * 60] * 3, by="model")
    (request,) = [ask for ask in asked if ask.purpose == "summary"]
    assert request.messages[:2] == START
    assert request.messages[-1] == Message("user", SUMMARISE)
    assert (request.schema, request.tool_choice) == (None, "none")
    assert tokens(request.messages) <= 300
    said, note, call, answer = asked[-1].messages[2:]
    assert said == Message("assistant", "p0 has a stone.")
    assert "2 earlier steps are left out" in note.content
    assert (call.tool_calls[0].id, answer.content) == ("c2", "a stone " * 60)


@pytest.mark.parametrize("summary", ["", "word " * 5_000])
def test_where_the_model_says_nothing_or_too_much_it_goes_by_rule(summary):
    for ask in talk(300, ["a stone " * 60] * 6, by="model", summary=summary):
        assert tokens(ask.messages) <= 300


def test_what_cannot_fit_is_an_error_that_says_what_to_do():
    with pytest.raises(
        errors.ContextError, match="system prompt and task take 5 tokens, and the context leaves 4"
    ) as caught:
        talk(4, [])
    assert "longer context" in caught.value.remedy
    with pytest.raises(errors.ContextError, match="however it is shortened"):
        talk(20, ["x" * 5_000])
