"""From a specification and an input to what one agent is to do. Pure.

Whatever all agents share comes first and identically in every conversation: one master prefix, N tails, so that an
engine's prefix cache computes it once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.agents.driver import Task
from aurora_swarm.agents.steps import ConstrainedStep
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules
from aurora_swarm.batch.keys import Determinants, KeyMaker
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.errors import InputError, ToolDefinitionError
from aurora_swarm.inputs.template import Template
from aurora_swarm.tools.definition import AnyTool, as_tool
from aurora_swarm.values.message import Message

REPEATED_CHARS = 300
"""A task up to this long is said again after a tool's answer: cheap, and a small model answers it far better."""


class Job(msgspec.Struct, frozen=True):
    """One compiled input: the execution plan of one agent.

    Args:
        task: What the agent is to do.
        tools: What it may use, by name.
    """

    task: Task
    tools: Mapping[str, AnyTool]


class TaskCompiler:
    """Compiles the inputs of one batch.

    Args:
        spec: The batch.
        model: Model name; part of every content key.

    Raises:
        TemplateError: The task is not a template.
        ToolDefinitionError: A tool cannot be offered, or two have one name.
        SchemaError: The output schema cannot be used.
    """

    def __init__(self, spec: BatchSpec, model: str) -> None:
        self.spec = spec
        self.model = model
        self.output = OutputSpec(spec.output_schema)
        self.tools = {tool.name: tool for tool in map(as_tool, spec.tools)}
        if len(self.tools) != len(spec.tools):
            raise ToolDefinitionError("two tools have one name", remedy="give each tool a name of its own")
        self._template = Template(spec.task, "task")
        self._shared_step = ConstrainedStep(list(self.tools.values()), self.output) if self.tools else None
        self._system = self._system_message()
        self._prefix = hashlib.sha256(msgspec.json.encode(self._system)).hexdigest()[:16] if self._system else ""
        self._keys = KeyMaker(self._determinants())

    def check(self, inputs: Sequence[Any]) -> None:
        """Make sure, before any work, that every input has what the task and the tools need.

        Raises:
            InputError: An input is no mapping.
            TemplateError: A placeholder that an input does not fill; input and placeholder are named.
        """
        checked: set[frozenset[str]] = set()
        for index, values in enumerate(inputs):
            fields = frozenset(_mapping(index, values))
            if fields not in checked:
                checked.add(fields)
                self._template.check(fields, f"input {index}")
                for tool in self.tools.values():
                    tool.check_grants(fields, f"input {index}")

    def compile(self, index: int, values: Any) -> Job:
        """The plan for one input.

        Raises:
            InputError: The input is no mapping.
            TemplateError: A placeholder cannot be filled.
        """
        fields = _mapping(index, values)
        text = self._template.render(fields)
        messages = (*self._system, Message("user", text))
        tools = {name: tool.bind(fields) for name, tool in self.tools.items()}
        stamps = b"".join(tool.stamp() for tool in tools.values())
        task = Task(
            index=index,
            key=self._keys.key(messages, stamps),
            messages=messages,
            rules=self._rules(tools, text),
            model=self.model,
            sampling=self.spec.sampling,
            prefix=self._prefix,
            timeout_s=self.spec.agent_timeout_s,
        )
        return Job(task, tools)

    def _rules(self, tools: Mapping[str, AnyTool], text: str) -> Rules:
        same = all(tools[name] is tool for name, tool in self.tools.items())
        step = self._shared_step if same else ConstrainedStep(list(tools.values()), self.output)
        reminder = f"Now do the task: {text}" if len(text) <= REPEATED_CHARS else "Now go on with the task."
        return Rules(
            output=self.output,
            protocol=step,
            tool_choice=self.spec.tool_choice,
            max_turns=self.spec.max_turns,
            max_retries=self.spec.max_retries,
            reminder=reminder,
        )

    def _system_message(self) -> tuple[Message, ...]:
        parts = [self.spec.system_prompt]
        if self._shared_step is not None:
            parts.append(self._shared_step.instructions())
        text = "\n\n".join(part for part in parts if part)
        return (Message("system", text),) if text else ()

    def _determinants(self) -> Determinants:
        spec = self.spec
        return Determinants(
            model=self.model,
            sampling=spec.sampling,
            schema=bytes(self.output.encoded or b""),
            tools=tuple(tool.determinant() for tool in self.tools.values()),
            max_turns=spec.max_turns,
            max_retries=spec.max_retries,
            tool_choice=spec.tool_choice,
        )


def _mapping(index: int, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(
            f"is a {type(values).__name__}, not a mapping of fields",
            source=f"input {index}",
            remedy='give each input as a dict such as {"text": ...}',
        )
    return values
