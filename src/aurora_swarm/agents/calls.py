"""What a model may call, and how its calls stand in the conversation so that every server takes them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from aurora_swarm.inputs.files import show
from aurora_swarm.values.message import MALFORMED, ToolCall

MAX_CALLS = 64
"""Calls in one reply that are run; a model that asks for more is told so."""

_SHOWN = 300
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64


class CallIds:
    """Sees to it that no id occurs twice in one conversation, whatever the server gives."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def told_apart(self, calls: Iterable[ToolCall], turn: int) -> tuple[ToolCall, ...]:
        """The calls with an id each that no call of this conversation had before.

        Ids that differ only in characters that some providers refuse are taken for the same, so that they stay apart
        where those are replaced.

        Args:
            calls: As the model gave them.
            turn: Part of the ids that are made here.
        """
        return tuple(self._own(call, f"call_{turn}_{place}") for place, call in enumerate(calls))

    def _own(self, call: ToolCall, fallback: str) -> ToolCall:
        identity = call.id if call.id.isascii() and call.id.isprintable() and len(call.id) <= _MAX_NAME else ""
        plain, more = _plain(identity), 0
        while not identity or plain in self._used:
            identity = plain = f"{fallback}_{more}" if more else fallback
            more += 1
        self._used.add(plain)
        return call if identity == call.id else ToolCall(identity, call.name, call.arguments)


def refusal(call: ToolCall, place: int, names: frozenset[str]) -> str:
    """Why a call is not run, written for the model; empty for one that may be.

    Args:
        call: The call.
        place: Its place among those of one reply.
        names: The tools that the agent was given.
    """
    if call.name not in names:
        return f"refused: there is no tool {show(call.name)}; there are: {', '.join(sorted(names)) or 'none'}"
    if MALFORMED in call.arguments:
        text = str(call.arguments[MALFORMED])
        shown = show(text[:_SHOWN])
        return f"refused: the arguments are no JSON object: {shown}; give one that fits the tool's parameters"
    if place >= MAX_CALLS:
        return f"refused: more than {MAX_CALLS} calls in one step; ask again for what is still needed"
    return ""


def carried(call: ToolCall) -> ToolCall:
    """A call as the conversation has it: a name that servers take, and arguments that JSON can carry."""
    name = _plain(call.name) or "unknown"
    arguments = {} if MALFORMED in call.arguments or not _is_json(call) else call.arguments
    if name == call.name and arguments is call.arguments:
        return call
    return ToolCall(call.id, name, arguments)


def _is_json(call: ToolCall) -> bool:
    try:
        msgspec.json.encode(call.arguments)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True


def _plain(text: str) -> str:
    if len(text) <= _MAX_NAME and text.isascii() and text.isidentifier():
        return text
    return _NOT_PLAIN.sub("_", text)[:_MAX_NAME]
