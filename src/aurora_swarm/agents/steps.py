"""Tools for engines without a tool protocol of their own: each step is constrained to a tool call or an answer. Pure.

The model answers ``{"tool": NAME, "arguments": {...}}`` or ``{"answer": ...}``, and the engine's constrained decoding
makes anything else impossible. That works on any engine that takes a JSON schema, down to models of 135M parameters,
for which the usual tool protocols come back as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.agents.protocol import Offer, Said
from aurora_swarm.agents.structured import MAX_STRING, OutputSpec, load_json
from aurora_swarm.errors import InvalidOutputError
from aurora_swarm.tools.decoding import nested
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply


class ConstrainedStep:
    """The protocol of one agent.

    Args:
        tools: What it may use; at least one. Their schemas hold what this agent in particular is granted.
        output: What counts as an answer.

    Attributes:
        names: The tools' names.
    """

    answers_alone = False

    def __init__(self, tools: Sequence[AnyTool], output: OutputSpec) -> None:
        self.names = frozenset(tool.name for tool in tools)
        self._tools = tuple(tools)
        self._output = output
        self._schemas: dict[bool, msgspec.Raw] = {}
        self._bare = Offer(output.encoded)

    def offer(self, *, may_use: bool, may_answer: bool, has_called: bool) -> Offer:
        """What a turn is held to: a step, or the bare answer where it may use no tools."""
        del has_called
        return Offer(self.schema(may_answer=may_answer)) if may_use else self._bare

    def understand(self, reply: Reply, *, may_use: bool, call_id: str) -> Said | tuple[ToolCall, ...]:
        """What a reply says.

        Raises:
            InvalidOutputError: It is no step.
        """
        if not may_use:
            return Said(reply.text)
        step = self.parse(reply.text, call_id=call_id)
        return step if isinstance(step, Said) else (step,)

    def unwrapped(self, text: str) -> str | None:
        """The answer of a text that is a step; a model without constraint goes by the form that it was taught."""
        try:
            step = self.parse(text, call_id="")
        except InvalidOutputError:
            return None
        return step.text if isinstance(step, Said) else None

    def told(self, text: str, calls: Sequence[ToolCall], answers: Sequence[str]) -> tuple[Message, ...]:
        """The step as the model wrote it, and the answers; nothing in them is of a server's protocol."""
        del calls
        return Message("assistant", text), *(Message("tool", answer) for answer in answers)

    def schema(self, *, may_answer: bool) -> msgspec.Raw:
        """What a step is constrained to, as encoded JSON schema.

        Args:
            may_answer: Whether the step may answer; else it must use a tool.
        """
        if may_answer not in self._schemas:
            self._schemas[may_answer] = msgspec.Raw(msgspec.json.encode(self._build(may_answer)))
        return self._schemas[may_answer]

    def parse(self, text: str, *, call_id: str) -> ToolCall | Said:
        """What a step says.

        Args:
            text: The model's text.
            call_id: Id for a tool call.

        Raises:
            InvalidOutputError: It is no step.
        """
        plain = _plain_step(text, call_id)
        if plain is not None:
            return plain
        try:
            step = load_json(text)
        except ValueError as error:
            raise InvalidOutputError(f"it is not JSON: {error}", text=text) from None
        match step:
            case {"tool": str(name), "arguments": dict(arguments), **rest} if not rest:
                return ToolCall(call_id, name, arguments)
            case {"answer": answer, **rest} if not rest:
                return Said(answer if isinstance(answer, str) else json.dumps(answer))
        names = ", ".join(tool.name for tool in self._tools)
        problem = f'it is neither {{"tool": ..., "arguments": ...}} (tools: {names}) nor {{"answer": ...}}'
        raise InvalidOutputError(problem, text=text)

    def instructions(self) -> str:
        """How to use the tools. The same for all agents of a batch: what one in particular is granted is not in it."""
        lines = ["You can use tools. Reply with JSON only."]
        for tool in self._tools:
            names = ", ".join(tool.parameters.get("properties", {}))
            lines.append(f"{tool.name}({names}): {tool.description}")
        example = dict.fromkeys(self._tools[0].parameters.get("properties", {}), "...")
        call = json.dumps({"tool": self._tools[0].name, "arguments": example})
        lines.append(f'To use a tool: {call}\nTo answer: {{"answer": ...}}')
        return "\n".join(lines)

    def _build(self, may_answer: bool) -> dict[str, Any]:
        definitions: dict[str, Any] = {}

        def placed(part: Mapping[str, Any], name: str) -> dict[str, Any]:
            """A part whose definitions are apart from those of the others, which may have the same names."""
            schema, more = nested(part, name)
            definitions.update(more)
            return schema

        options = [
            _object(tool={"const": tool.name}, arguments=placed(tool.parameters, f"tool_{tool.name}"))
            for tool in self._tools
        ]
        if may_answer:
            answer = self._output.schema or {"type": "string", "minLength": 1, "maxLength": MAX_STRING}
            options.append(_object(answer=placed(answer, "answer")))
        schema = options[0] if len(options) == 1 else {"anyOf": options}
        return {**schema, "$defs": definitions} if definitions else schema


class _PlainStep(msgspec.Struct, forbid_unknown_fields=True):
    tool: str | msgspec.UnsetType = msgspec.UNSET
    arguments: dict[str, str | int | bool | None] | msgspec.UnsetType = msgspec.UNSET
    answer: str | msgspec.UnsetType = msgspec.UNSET


_PLAIN_STEP = msgspec.json.Decoder(_PlainStep)


def _plain_step(text: str, call_id: str) -> ToolCall | Said | None:
    """What most steps say, a call with plain arguments or an answer in words; None where a slower look is needed.

    A key has a colon, so as many colons as keys means no key twice.
    """
    try:
        step = _PLAIN_STEP.decode(text)
    except (msgspec.MsgspecError, ValueError):  # half a surrogate pair among them
        return None
    if step.answer is not msgspec.UNSET:
        return Said(step.answer) if text.count(":") == 1 else None
    if step.tool is msgspec.UNSET or step.arguments is msgspec.UNSET:
        return None
    return ToolCall(call_id, step.tool, step.arguments) if text.count(":") == 2 + len(step.arguments) else None


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
