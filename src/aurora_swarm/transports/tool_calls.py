"""Tool calls of the servers' own protocols: what all wires share in reading and writing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from aurora_swarm.transports.wire import encoded
from aurora_swarm.values.message import MALFORMED, Message, ToolCall

_ARGUMENTS = msgspec.json.Decoder(dict[str, Any])
_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_-]")


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments that a model wrote.

    Args:
        text: What it wrote. None at all, or ``null``, are no arguments.

    Returns:
        The JSON object, or the text itself under `MALFORMED` where it is none.
    """
    if not text.strip() or text.strip() == "null":
        return {}
    try:
        return _ARGUMENTS.decode(text)
    except (ValueError, RecursionError):
        return {MALFORMED: text}


def told_apart(calls: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    """The calls with an id each: one that is missing, or was there before, becomes ``call_0``, ``call_1`` ...

    Ids are told apart within one reply; whoever holds the conversation sees to it that none comes back in a later one.
    """
    kept: dict[str, ToolCall] = {}
    for call in calls:
        identity, number = call.id, len(kept)
        while not identity or identity in kept:
            identity, number = f"call_{number}", number + 1
        kept[identity] = call if identity == call.id else ToolCall(identity, call.name, call.arguments)
    return tuple(kept.values())


def plain_id(identity: str) -> str:
    """An id with nothing in it but letters, digits, ``_`` and ``-``, 64 at most: what every provider takes.

    The same for the same id, so that call and answer still fit where a conversation moves to another provider.
    """
    return _NOT_IN_IDS.sub("_", identity)[:64]


class PartialCalls:
    """Puts together tool calls that arrive in pieces."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[str, str, list[str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, index: int | None, identity: str, name: str, arguments: str) -> None:
        """One piece.

        Args:
            index: Which call it belongs to; None, as some servers send, for the last one, or for a new one where the
                piece has an id of its own.
            identity: The call's id; empty in later pieces.
            name: The tool; empty in later pieces.
            arguments: What follows of their JSON.
        """
        if index is None:
            index = max(self._parts, default=0)
            if identity and self._parts and self._parts[index][0] != identity:
                index += 1
        known = self._parts.get(index, ("", "", []))
        known[2].append(arguments)
        self._parts[index] = (known[0] or identity, known[1] or name, known[2])

    def whole(self) -> tuple[ToolCall, ...]:
        """The calls in the order of their indices."""
        ordered = (self._parts[index] for index in sorted(self._parts))
        return told_apart(ToolCall(identity, name, arguments_of("".join(text))) for identity, name, text in ordered)


def without_tools(messages: Sequence[Message]) -> Sequence[Message]:
    """A conversation without calls and answers of a tool protocol, told in plain text instead.

    For providers that refuse such parts in a request that offers no tools.
    """
    if not any(message.tool_calls or message.tool_call_id for message in messages):
        return messages
    return [_in_words(message) for message in messages]


def _in_words(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", message.content)
    if not message.tool_calls:
        return message
    called = (f"[called {call.name} with {encoded(call.arguments).decode()}]" for call in message.tool_calls)
    return Message(message.role, "\n".join(filter(None, (message.content, *called))))
