"""How an agent and its model speak of tools: what every tool protocol does for the turn machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from aurora_swarm.values.call import OfferedTool
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply


class Said(msgspec.Struct, frozen=True):
    """An answer, as the text that it would be without tools."""

    text: str


class Offer(msgspec.Struct, frozen=True):
    """What a turn may be, as a call to the model carries it.

    Args:
        schema: What the model's text is constrained to, as encoded JSON schema; None for free text.
        tools: What it may call by the server's own protocol.
        tool_choice: Whether it must call one of them, may, or may not.
    """

    schema: msgspec.Raw | None
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: Literal["auto", "required", "none"] = "auto"


class ToolProtocol(Protocol):
    """One way to ask for tools: the server's own calls, or a step that is constrained to a schema."""

    answers_alone: bool
    """Whether an invalid answer is asked for again without tools, so that it can be constrained."""

    @property
    def names(self) -> frozenset[str]:
        """The tools that the agent was given; nothing else is ever run."""

    def offer(self, *, may_use: bool, may_answer: bool, has_called: bool) -> Offer:
        """What a turn is held to.

        Args:
            may_use: Whether it may use tools.
            may_answer: Whether it may answer; else it must use a tool.
            has_called: Whether the conversation holds calls already.
        """

    def understand(self, reply: Reply, *, may_use: bool, call_id: str) -> Said | tuple[ToolCall, ...]:
        """What a reply says: an answer, or at least one call.

        Args:
            reply: Of the model, as it is.
            may_use: Whether it was offered tools.
            call_id: Id for a call that has none of its own.

        Raises:
            InvalidOutputError: It is neither; the problem is written for the model.
        """

    def unwrapped(self, text: str) -> str | None:
        """The answer within a text that is no valid answer itself; None when there is none."""

    def told(self, text: str, calls: Sequence[ToolCall], answers: Sequence[str]) -> tuple[Message, ...]:
        """A step and the answers to it, as the conversation has them.

        Args:
            text: What the model said, beside its calls or to make them.
            calls: Its calls; fit for every wire.
            answers: One text per call, in the same order.

        Returns:
            The model's message first, then the answers.
        """
