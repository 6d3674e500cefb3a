"""One agent's conversation as a plain generator: it says what to do next, and is told what came of it.

Pure: no loop, clock or network. Feeding a recorded conversation to a new generator brings it to the same point, so a
recording is all that resuming needs::

    turns = converse(rules, messages)
    step = next(turns)            # Ask(messages, schema, ...)
    step = turns.send(reply)      # UseTools((call,)), or Ask again
    step = turns.send(answers)    # Ask ...
    ...                           # until StopIteration.value is the Answer
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec

from aurora_swarm.agents.steps import ConstrainedStep, Said
from aurora_swarm.agents.structured import OutputSpec, Parsed
from aurora_swarm.errors import InvalidOutputError
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply

ToolChoice = Literal["auto", "required"]


class Rules(msgspec.Struct, frozen=True):
    """What bounds a conversation.

    Args:
        output: What counts as an answer.
        protocol: How tools are asked for; None for an agent without tools.
        tool_choice: ``required`` makes the agent use a tool before it may answer.
        max_turns: Turns at most; the last one may only answer.
        max_retries: Re-asks after an invalid answer, over the whole conversation; they are no turns.
        reminder: Said after each tool's answer, because a small model has forgotten the task by then; empty for
            nothing.
    """

    output: OutputSpec
    protocol: ConstrainedStep | None = None
    tool_choice: ToolChoice = "auto"
    max_turns: int = 8
    max_retries: int = 2
    reminder: str = ""


class Ask(msgspec.Struct, frozen=True):
    """Ask the model.

    Args:
        messages: The whole conversation.
        schema: What its answer is constrained to, as encoded JSON schema; None for free text.
        turn: 0-based turn; a re-ask belongs to the turn that it repeats.
        turns_left: Turns that may still follow.
    """

    messages: tuple[Message, ...]
    schema: msgspec.Raw | None
    turn: int
    turns_left: int


class UseTools(msgspec.Struct, frozen=True):
    """Have tools called; the answers are wanted in the order of the calls."""

    calls: tuple[ToolCall, ...]


class Answer(msgspec.Struct, frozen=True):
    """The end of a conversation.

    Args:
        value: The validated answer.
        text: The model's last text, unchanged.
        repaired: Whether the JSON had to be repaired.
        turns: Turns taken.
    """

    value: Any
    text: str
    repaired: bool
    turns: int


Step = Ask | UseTools
Heard = Reply | Sequence[str]
Turns = Generator[Step, Heard, Answer]


def converse(rules: Rules, messages: Sequence[Message]) -> Turns:
    """Lead one conversation.

    Args:
        rules: What bounds it.
        messages: How it begins: the system prompt and the task.

    Yields:
        `Ask`, to be answered with a `Reply`; or `UseTools`, to be answered with one text per call.

    Returns:
        The answer.

    Raises:
        InvalidOutputError: No valid answer came within `max_retries` re-asks; tools were not run again for them.
    """
    said = list(messages)
    retries = 0
    used_tools = False
    turn = 0
    while True:
        may_use, may_answer = _permissions(rules, turn, used_tools)
        schema = _schema(rules, may_use, may_answer)
        reply = yield Ask(tuple(said), schema, turn, rules.max_turns - turn - 1)
        assert isinstance(reply, Reply)
        try:
            heard = _understand(rules, reply, may_use, may_answer, turn)
        except InvalidOutputError as error:
            if retries == rules.max_retries:
                raise
            retries += 1
            said += [Message("assistant", reply.text), Message("user", _correction(error, reply))]
            continue
        if isinstance(heard, Answer):
            return heard
        answers = yield UseTools((heard,))
        assert not isinstance(answers, Reply)
        said += [Message("assistant", reply.text), *(Message("tool", text) for text in answers)]
        said += [Message("user", rules.reminder)] * bool(rules.reminder)
        used_tools = True
        turn += 1


def _permissions(rules: Rules, turn: int, used_tools: bool) -> tuple[bool, bool]:
    """Whether this turn may use tools, and whether it may answer."""
    last = turn >= rules.max_turns - 1
    may_use = rules.protocol is not None and not last
    return may_use, not may_use or used_tools or rules.tool_choice == "auto"


def _schema(rules: Rules, may_use: bool, may_answer: bool) -> msgspec.Raw | None:
    if rules.protocol is None or not may_use:
        return rules.output.encoded
    return rules.protocol.schema(may_answer=may_answer)


def _understand(rules: Rules, reply: Reply, may_use: bool, may_answer: bool, turn: int) -> Answer | ToolCall:
    text = reply.text
    if rules.protocol is not None and may_use:
        step = rules.protocol.parse(text, call_id=f"call_{turn}")
        if isinstance(step, ToolCall):
            return step
        if not may_answer:
            raise InvalidOutputError("use a tool before you answer", text=text)
        text = step.text
    parsed = _parsed(rules, text)
    return Answer(value=parsed.value, text=reply.text, repaired=parsed.repaired, turns=turn + 1)


def _parsed(rules: Rules, text: str) -> Parsed:
    """The answer; on the last turn, which is held to the bare answer, the form with tools is understood too.

    An engine without constrained decoding goes by the instructions, which teach that form.
    """
    try:
        return rules.output.parse(text)
    except InvalidOutputError:
        if rules.protocol is None:
            raise
        with suppress(InvalidOutputError):
            step = rules.protocol.parse(text, call_id="")
            if isinstance(step, Said):
                return rules.output.parse(step.text)
        raise


def _correction(error: InvalidOutputError, reply: Reply) -> str:
    cut = " It was cut off: be shorter." if reply.finish_reason == "length" else ""
    return f"That answer cannot be used: {error.problem}.{cut} Answer again, in the required form only."
