"""What a simulated model says: a text, or a call of a tool that it was offered. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from aurora_swarm.testing.answers import encode


class Called(msgspec.Struct, frozen=True):
    """A call by the server's own protocol.

    Args:
        id: Unique in the conversation.
        name: The tool.
        arguments: Its arguments, as JSON.
    """

    id: str
    name: str
    arguments: str


class Speech(msgspec.Struct, frozen=True):
    """What is said in one answer.

    Args:
        text: The text; empty beside a call.
        call: The call, where it is one.
    """

    text: str
    call: Called | None = None

    @property
    def written(self) -> str:
        """What tokens spell out."""
        return self.text if self.call is None else self.call.arguments


class _Step(msgspec.Struct):
    tool: str | None = None
    arguments: dict[str, Any] = {}
    answer: Any = None


_STEP = msgspec.json.Decoder(_Step)


def speech_of(text: str, tools: frozenset[str], turn: int) -> Speech:
    """A text as the model says it to a request that offers tools.

    Args:
        text: What it is to say. ``{"tool": NAME, "arguments": {...}}`` is a call where that tool is offered by the
            server's own protocol, ``{"answer": ...}`` what it answers then, so that one script plays a model on every
            wire.
        tools: Names of what is offered; none where tools are asked for in another way.
        turn: 0-based turn of the conversation.
    """
    if not tools or not text.startswith("{"):
        return Speech(text)
    try:
        step = _STEP.decode(text)
    except msgspec.DecodeError:
        return Speech(text)
    if step.tool is not None:
        arguments = encode(step.arguments).decode()
        return Speech("", Called(f"call_{turn}", step.tool, arguments)) if step.tool in tools else Speech(text)
    if step.answer is None:
        return Speech(text)
    return Speech(step.answer if isinstance(step.answer, str) else encode(step.answer).decode())
