"""Tools by the server's own protocol: they are offered with the call, and come back as calls beside the text. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aurora_swarm.agents.protocol import Offer, Said
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.call import OfferedTool
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply


class NativeTools:
    """The protocol of agents on servers that parse tool calls themselves.

    While tools are offered the answer is not constrained, because hardly any engine can do both; it is validated. A
    turn that may only answer is constrained.

    Args:
        tools: What the agent may use; at least one.
        output: What counts as an answer.

    Attributes:
        names: The tools' names.
    """

    answers_alone = True

    def __init__(self, tools: Sequence[AnyTool], output: OutputSpec) -> None:
        offered = tuple(
            OfferedTool(tool.name, tool.description, msgspec.Raw(msgspec.json.encode(tool.parameters)))
            for tool in tools
        )
        self.names = frozenset(tool.name for tool in tools)
        # Made once: wires know equal calls by the identity of what is offered.
        self._may = Offer(None, offered)
        self._must = Offer(None, offered, "required")
        self._listed = Offer(output.encoded, offered, "none")
        self._bare = Offer(output.encoded)

    def offer(self, *, may_use: bool, may_answer: bool, has_called: bool) -> Offer:
        """What a turn is held to.

        A turn that may use none lists the tools all the same once the conversation holds calls: servers refuse calls
        of tools that they were never told of, and the prompt's beginning stays what it was.
        """
        if may_use:
            return self._may if may_answer else self._must
        return self._listed if has_called else self._bare

    def understand(self, reply: Reply, *, may_use: bool, call_id: str) -> Said | tuple[ToolCall, ...]:
        """The calls, where there are any and tools were offered; else the text. What is said beside calls is kept."""
        del call_id
        return reply.tool_calls if may_use and reply.tool_calls else Said(reply.text)

    def unwrapped(self, text: str) -> str | None:
        """None: an answer is wrapped in nothing."""
        del text
        return None

    def told(self, text: str, calls: Sequence[ToolCall], answers: Sequence[str]) -> tuple[Message, ...]:
        """The model's message with its calls, and for each call the message that answers it."""
        answered = zip(calls, answers, strict=True)
        return (
            Message("assistant", "" if text.isspace() else text, tool_calls=tuple(calls)),
            *(Message("tool", answer, call.id) for call, answer in answered),
        )
