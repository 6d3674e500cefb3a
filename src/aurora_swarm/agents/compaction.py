"""What becomes of a conversation that would outgrow the model's context: older parts are shortened, then left out.

Whole exchanges are left out, never halves of one, so that every call keeps its answer. The beginning (system prompt and
task) stays as it is, byte by byte. What is left out, and why, stands in the conversation itself. Pure.

Once it is needed the conversation is brought well below the limit, because each time costs the engine what it had
cached of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from aurora_swarm.agents.conversation import Exchange, flat, spoken
from aurora_swarm.errors import ContextError
from aurora_swarm.values.message import Message, ToolCall

SUMMARISE = (
    "Before you go on: sum up, in plain text of no more than 300 words, what was found out so far and what is still to "
    "do. The steps before this will be left out, so that your summary is all that is known of them."
)
"""What a model is asked when it is to shorten a conversation itself."""

_GOAL = 0.75
"""Share of the limit that compaction aims at."""

_OLD_ANSWER_CHARS = 400
"""What is left of an older answer before whole steps are left out."""

_LEAST_CHARS = 100
"""The newest answers are never cut below this."""

_CALL_CHARS, _CALLS_CHARS = 120, 800
"""What is told of one call, and of all calls, of steps that were left out; in a short context less."""


class ContextRule(msgspec.Struct, frozen=True):
    """When and how a conversation is made shorter.

    Args:
        limit: Tokens that the messages may have; what the answer and offered tools take is left out of it already.
        tokens: Tokens of messages, at most. The same messages must give the same number whenever they are measured,
            or a recorded conversation cannot be resumed exactly.
        by: ``heuristic`` shortens and leaves out by rule; ``model`` asks the model for a summary of the older steps,
            and goes by rule where that does not help.
    """

    limit: int
    tokens: Callable[[Sequence[Message]], int]
    by: Literal["heuristic", "model"] = "heuristic"


def fits(beginning: tuple[Message, ...], exchanges: Sequence[Exchange], rule: ContextRule) -> bool:
    """Whether a conversation is within its limit."""
    return rule.tokens(flat(beginning, exchanges)) <= rule.limit


def shortened(beginning: tuple[Message, ...], exchanges: Sequence[Exchange], rule: ContextRule) -> list[Exchange]:
    """A conversation's exchanges, made to fit by rule.

    First older answers are shortened, then older steps are left out, oldest first; at last the newest step itself is
    shortened.

    Raises:
        ContextError: It cannot be made to fit.
    """
    kept = list(exchanges)
    goal = int(rule.limit * _GOAL)

    def exceeds(limit: int) -> bool:
        return rule.tokens(flat(beginning, kept)) > limit

    for place in range(len(kept) - 1):
        if not exceeds(goal):
            return kept
        kept[place] = _brief(kept[place], _OLD_ANSWER_CHARS)
    older = 1
    while older < len(exchanges) and exceeds(goal):
        kept = [_left_out(exchanges[:older], rule.limit), *kept[1 if older == 1 else 2 :]]
        older += 1
    if kept:
        newest, chars = kept[-1], _longest(kept[-1])
        while exceeds(rule.limit) and chars > _LEAST_CHARS:
            chars = max(chars // 2, _LEAST_CHARS)
            kept[-1] = _brief(newest, chars)
    if exceeds(rule.limit):
        raise _too_long(beginning, rule)
    return kept


def to_sum_up(beginning: tuple[Message, ...], exchanges: Sequence[Exchange], rule: ContextRule) -> tuple[Message, ...]:
    """What a model is asked so that it sums up all but the newest exchange; empty where that is not possible."""
    request = Message("user", SUMMARISE)
    room = msgspec.structs.replace(rule, limit=rule.limit - rule.tokens((request,)))
    if len(exchanges) < 2:
        return ()
    older = exchanges[:-1]
    try:
        told = older if fits(beginning, older, room) else shortened(beginning, older, room)
    except ContextError:
        return ()
    return (*flat(beginning, told), request)


def summed_up(exchanges: Sequence[Exchange], summary: str, rule: ContextRule) -> list[Exchange]:
    """The exchanges with a model's summary in place of all but the newest; as they are where it said nothing."""
    if not summary.strip():
        return list(exchanges)
    steps = sum(exchange.steps for exchange in exchanges[:-1])
    note = (
        f"[{_steps(steps)} left out, because the conversation would outgrow the model's context of about "
        f"{rule.limit} tokens. Your summary above stands for them.]"
    )
    said = Message("assistant", spoken(summary))
    return [Exchange(said, (Message("user", note),), steps, stands_for=said.content), exchanges[-1]]


def _left_out(older: Sequence[Exchange], limit: int) -> Exchange:
    steps = sum(exchange.steps for exchange in older)
    calls = "; ".join(exchange.stands_for or _in_words(exchange) for exchange in older)
    room = min(_CALLS_CHARS, limit)
    shown = calls if len(calls) <= room else f"... {calls[-room:]}"
    note = (
        f"[{_steps(steps)} left out, because the conversation would outgrow the model's context of about {limit} "
        f"tokens. Use a tool again where you need its answer.]"
    )
    said = Message("assistant", f"Earlier steps, in short: {shown}")
    return Exchange(said, (Message("user", note),), steps, stands_for=shown)


def _steps(count: int) -> str:
    return "1 earlier step is" if count == 1 else f"{count} earlier steps are"


def _in_words(exchange: Exchange) -> str:
    """What the model did in a step, in a few words."""
    said = exchange.said
    texts = [f"{call.name}({_arguments(call)})" for call in said.tool_calls] or [said.content]
    return "; ".join(text if len(text) <= _CALL_CHARS else f"{text[:_CALL_CHARS]}..." for text in texts)


def _arguments(call: ToolCall) -> str:
    return msgspec.json.encode(call.arguments).decode()


def _brief(exchange: Exchange, chars: int) -> Exchange:
    """An exchange whose texts have not much more than so many characters each."""
    told = tuple(_cut_message(message, chars) for message in exchange.told)
    return msgspec.structs.replace(exchange, said=_cut_message(exchange.said, chars), told=told)


def _longest(exchange: Exchange) -> int:
    """Characters of its longest text."""
    texts = [len(message.content) for message in (exchange.said, *exchange.told)]
    return max(*texts, *(len(_arguments(call)) for call in exchange.said.tool_calls), 0)


def _cut_message(message: Message, chars: int) -> Message:
    content = _cut(message.content, chars)
    calls = tuple(_cut_call(call, chars) for call in message.tool_calls)
    if content is message.content and calls == message.tool_calls:
        return message
    return msgspec.structs.replace(message, content=content, tool_calls=calls)


def _cut_call(call: ToolCall, chars: int) -> ToolCall:
    length = len(_arguments(call))
    if length <= chars:
        return call
    return ToolCall(call.id, call.name, {"left_out": f"{length} characters, to stay within the model's context"})


def _cut(text: str, chars: int) -> str:
    note = f"\n[{len(text) - chars} of {len(text)} characters are left out here, to stay within the model's context]\n"
    if len(text) <= chars + len(note):
        return text
    head = chars * 2 // 3
    return f"{text[:head]}{note}{text[len(text) - (chars - head) :]}"


def _too_long(beginning: tuple[Message, ...], rule: ContextRule) -> ContextError:
    alone = rule.tokens(beginning)
    problem = (
        f"the conversation does not fit the {rule.limit} tokens that the context leaves it, however it is shortened"
    )
    if alone > rule.limit:
        problem = f"system prompt and task take {alone} tokens, and the context leaves {rule.limit}"
    return ContextError(problem, remedy="use a model with a longer context, give shorter inputs, or lower max_tokens")
