"""A conversation as one text, for wires that know no roles."""

from __future__ import annotations

from collections.abc import Sequence

from aurora_swarm.values.message import Message

_SPEAKERS = {"user": "User", "tool": "User", "assistant": "Assistant"}


def as_prompt(messages: Sequence[Message]) -> str:
    """The conversation as one prompt.

    A single user message is its own text, unchanged, with the system's text before it where there is one. A
    longer conversation names its speakers and ends where the assistant speaks next.

    Args:
        messages: At least one message.
    """
    if len(messages) == 1:
        return messages[0].content
    system = [m.content for m in messages if m.role == "system"]
    said = [m for m in messages if m.role != "system"]
    if len(said) <= 1:
        return "\n\n".join([*system, *(m.content for m in said)])
    turns = [f"{_SPEAKERS[m.role]}: {m.content}" for m in said]
    cue = [] if said[-1].role == "assistant" else ["Assistant:"]
    return "\n\n".join([*system, *turns, *cue])
