"""What is said in a conversation."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

MALFORMED = "__malformed__"
"""The one key of `ToolCall.arguments` that are no JSON object; its value is what the model wrote."""


class ToolCall(msgspec.Struct, frozen=True):
    """A model's wish to use a tool.

    Args:
        id: Unique within the conversation; answered exactly once.
        name: The tool.
        arguments: JSON object, as the model gave it and not yet validated; under `MALFORMED` what is none.
    """

    id: str
    name: str
    arguments: dict[str, Any]


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One message.

    Args:
        role: Who speaks. Text from tools, files, memory or other agents has the role ``tool``.
        content: The text.
        tool_call_id: For role ``tool``: the call that this answers.
        tool_calls: For role ``assistant``: the calls that the model asked for.
    """

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    tool_call_id: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
