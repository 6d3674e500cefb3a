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

from aurora_swarm.agents.calls import CallIds, carried, refusal
from aurora_swarm.agents.compaction import ContextRule, fits, shortened, summed_up, to_sum_up
from aurora_swarm.agents.conversation import Conversation, readable
from aurora_swarm.agents.protocol import Offer, Said, ToolProtocol
from aurora_swarm.agents.structured import OutputSpec, Parsed
from aurora_swarm.errors import InvalidOutputError
from aurora_swarm.values.call import OfferedTool
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
        max_parallel: Tool calls of this agent under way at a time.
        context: What happens when the conversation outgrows the model's context; None for nothing.
    """

    output: OutputSpec
    protocol: ToolProtocol | None = None
    tool_choice: ToolChoice = "auto"
    max_turns: int = 8
    max_retries: int = 2
    reminder: str = ""
    max_parallel: int = 8
    context: ContextRule | None = None


class Ask(msgspec.Struct, frozen=True):
    """Ask the model.

    Args:
        messages: The whole conversation.
        schema: What its answer is constrained to, as encoded JSON schema; None for free text.
        turn: 0-based turn; a re-ask belongs to the turn that it repeats.
        turns_left: Turns that may still follow.
        tools: What it may call by the server's own protocol.
        tool_choice: Whether it must call one of `tools`, may, or may not.
        purpose: ``turn``, or ``summary`` where the text is wanted to stand for older steps.
    """

    messages: tuple[Message, ...]
    schema: msgspec.Raw | None
    turn: int
    turns_left: int
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: Literal["auto", "required", "none"] = "auto"
    purpose: Literal["turn", "summary"] = "turn"


class UseTools(msgspec.Struct, frozen=True):
    """Have tools called; the answers are wanted in the order of the calls. Each is of a tool that was given."""

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
        AgentError: It outgrows the context and cannot be shortened enough.
    """
    turns = _Conversing(rules, messages)
    while True:
        if rules.context is not None:
            yield from turns.make_fit(rules.context)
        offer = turns.offer()
        reply = yield Ask(
            turns.talk.messages(),
            offer.schema,
            turns.turn,
            rules.max_turns - turns.turn - 1,
            offer.tools,
            offer.tool_choice,
        )
        assert isinstance(reply, Reply)
        try:
            heard = turns.understand(reply)
        except InvalidOutputError as error:
            turns.correct(error, reply)
            continue
        if isinstance(heard, Answer):
            return heard
        yield from turns.use(reply.text, heard)


class _Conversing:
    """A conversation under way, and what may come next in it."""

    def __init__(self, rules: Rules, messages: Sequence[Message]) -> None:
        self.talk = Conversation(messages)
        self.turn = 0
        self._rules = rules
        self._ids = CallIds()
        self._retries = 0
        self._has_called = False
        self._must_answer = False
        self._may_use, self._may_answer = False, True  # in this turn, as `offer` finds

    def offer(self) -> Offer:
        """What the next turn is held to."""
        rules = self._rules
        if rules.protocol is None:
            return Offer(rules.output.encoded)
        is_last = self.turn >= rules.max_turns - 1
        self._may_use = not is_last and not self._must_answer
        self._may_answer = is_last or self._has_called or rules.tool_choice == "auto"
        return rules.protocol.offer(may_use=self._may_use, may_answer=self._may_answer, has_called=self._has_called)

    def make_fit(self, rule: ContextRule) -> Generator[Step, Heard, None]:
        """Shorten what would outgrow the context.

        Raises:
            AgentError: That cannot be done.
        """
        talk = self.talk
        if fits(talk.beginning, talk.exchanges, rule):
            return
        if rule.by == "model" and (request := to_sum_up(talk.beginning, talk.exchanges, rule)):
            reply = yield self._ask_for_summary(request)
            assert isinstance(reply, Reply)
            talk.exchanges = summed_up(talk.exchanges, reply.text, rule)
        if not fits(talk.beginning, talk.exchanges, rule):
            talk.exchanges = shortened(talk.beginning, talk.exchanges, rule)

    def _ask_for_summary(self, request: tuple[Message, ...]) -> Ask:
        protocol = self._rules.protocol
        left = self._rules.max_turns - self.turn - 1
        if protocol is None:
            return Ask(request, None, self.turn, left, purpose="summary")
        offer = protocol.offer(may_use=False, may_answer=True, has_called=self._has_called)
        return Ask(request, None, self.turn, left, offer.tools, offer.tool_choice, purpose="summary")

    def understand(self, reply: Reply) -> Answer | tuple[ToolCall, ...]:
        """The answer that a reply gives, or the calls that it asks for.

        Raises:
            InvalidOutputError: Neither.
        """
        text, protocol = reply.text, self._rules.protocol
        if protocol is not None:
            said = protocol.understand(reply, may_use=self._may_use, call_id=f"call_{self.turn}")
            if not isinstance(said, Said):
                return said
            if not self._may_answer:
                raise InvalidOutputError("use a tool before you answer", text=text)
            text = said.text
        parsed = _parsed(self._rules, text)
        return Answer(value=parsed.value, text=reply.text, repaired=parsed.repaired, turns=self.turn + 1)

    def correct(self, error: InvalidOutputError, reply: Reply) -> None:
        """Have the model asked again.

        Raises:
            InvalidOutputError: `error`, when it was asked again often enough.
        """
        if self._retries == self._rules.max_retries:
            raise error
        self._retries += 1
        protocol = self._rules.protocol
        answered = self._may_answer and bool(reply.text.strip())
        self._must_answer = answered and protocol is not None and protocol.answers_alone
        self.talk.correct(reply.text, _correction(error, reply))

    def use(self, text: str, calls: tuple[ToolCall, ...]) -> Generator[Step, Heard, None]:
        """Have calls answered, each exactly once: by its tool, or by why it is not run."""
        protocol = self._rules.protocol
        assert protocol is not None
        calls = self._ids.told_apart(calls, self.turn)
        refusals = [refusal(call, place, protocol.names) for place, call in enumerate(calls)]
        granted = tuple(call for call, refused in zip(calls, refusals, strict=True) if not refused)
        answers = (yield UseTools(granted)) if granted else ()
        assert not isinstance(answers, Reply)
        given = iter(answers)
        texts = [readable(refused or next(given)) for refused in refusals]
        self.talk.go_on(protocol.told(readable(text), tuple(map(carried, calls)), texts), self._rules.reminder)
        self._has_called = True
        self._must_answer = False
        self.turn += 1


def _parsed(rules: Rules, text: str) -> Parsed:
    """The answer; the form that the instructions teach is understood too where the bare one was asked for."""
    try:
        return rules.output.parse(text)
    except InvalidOutputError:
        inner = rules.protocol.unwrapped(text) if rules.protocol is not None else None
        if inner is None:
            raise
        with suppress(InvalidOutputError):
            return rules.output.parse(inner)
        raise


def _correction(error: InvalidOutputError, reply: Reply) -> str:
    cut = " It was cut off: be shorter." if reply.finish_reason == "length" else ""
    return f"That answer cannot be used: {error.problem}.{cut} Answer again, in the required form only."
