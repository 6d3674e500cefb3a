"""From a specification and an input to what one agent is to do. Pure.

Whatever all agents share comes first and identically in every conversation: one master prefix, N tails, so that an
engine's prefix cache computes it once. What is shared is, in this order, the system prompt, how to use the tools, the
schema of the answer where the engine is not told it, long fields that are equal in all inputs, and the beginning of the
task. `hoisting` says where fields stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.agents.compaction import ContextRule
from aurora_swarm.agents.driver import Task
from aurora_swarm.agents.native import NativeTools
from aurora_swarm.agents.protocol import ToolProtocol
from aurora_swarm.agents.steps import ConstrainedStep
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules
from aurora_swarm.batch.hoisting import Layout, fields_in_common, lay_out, text_of
from aurora_swarm.batch.keys import Determinants, KeyMaker
from aurora_swarm.batch.preamble import without_session_headers
from aurora_swarm.batch.spec import BatchSpec, ToolLike
from aurora_swarm.dispatch.prefixes import LEVELS
from aurora_swarm.errors import InputError, TemplateError, ToolDefinitionError
from aurora_swarm.inputs.template import Template
from aurora_swarm.tools.definition import AnyTool, as_tool
from aurora_swarm.tools.mcp.server import McpServer
from aurora_swarm.values.message import Message

REPEATED_CHARS = 300
"""A task up to this long is said again after a tool's answer: cheap, and a small model answers it far better."""

REMINDER = "Now do the task: "
"""What is said before it then."""

PREFIX_CHARS = LEVELS[0]
"""Length from which what all share decides where calls go: what prompts of a list must have in common, too."""

LONG_CHARS = 1024
"""Length from which a content key takes in a text by its digest, which for a shared one is made once."""


class Job(msgspec.Struct, frozen=True, gc=False):
    """One compiled input: the execution plan of one agent.

    Args:
        task: What the agent is to do.
        tools: What it may use, by name.
    """

    task: Task
    tools: Mapping[str, AnyTool]


class TaskCompiler:
    """Compiles the inputs of one batch.

    Where a field stands is no part of a content key, but for `spec.hoist` itself: an input keeps its answer when others
    join the list, whatever that moves.

    Args:
        spec: The batch.
        model: Model name; part of every content key.
        models: What stands for the model in keys where each endpoint has its own; `model` when empty.
        inputs: All inputs, where they are known in advance: what is equal in all of them is said once, in front, unless
            `spec.hoist` is off.
        shared: Fields that all inputs have in common, declared rather than found, as for an endless iterator. An input
            that has a value of its own keeps it.
        schema_in_words: Whether the system prompt tells the schema of the answer, for engines that are not held to it.
        strip_headers: Whether headers above the system prompt that vary from session to session are dropped.
        native_tools: Whether tools are asked for by the servers' own protocol, rather than by a constrained step.
        context: What happens to a conversation that outgrows the model's context.

    Raises:
        TemplateError: The task is not a template, or a shared value cannot be written into it.
        ToolDefinitionError: A tool cannot be offered, or two have one name.
        SchemaError: The output schema cannot be used.
    """

    def __init__(
        self,
        spec: BatchSpec,
        model: str,
        *,
        models: str = "",
        inputs: Sequence[Any] | None = None,
        shared: Mapping[str, Any] | None = None,
        schema_in_words: bool = False,
        strip_headers: bool = True,
        native_tools: bool = False,
        context: ContextRule | None = None,
    ) -> None:
        self.spec = spec
        self.model = model
        self._models = models or model
        self.output = OutputSpec(spec.output_schema)
        self.tools = {tool.name: tool for tool in map(as_tool, _without_servers(spec.tools))}
        if len(self.tools) != len(_without_servers(spec.tools)):
            raise ToolDefinitionError("two tools have one name", remedy="give each tool a name of its own")
        self._template = Template(spec.task, "task")
        self._declared = dict(shared or {})
        found = fields_in_common(self._template, inputs) if inputs is not None and spec.hoist else {}
        self._plain = lay_out(self._template, {})
        self._layout = lay_out(self._template, {**self._declared, **found})
        self._native = native_tools
        self._tells_schema = schema_in_words and self.output.encoded is not None
        self._context = context
        self._protocol = self._protocol_of(self.tools) if self.tools else None
        self._prompt = without_session_headers(spec.system_prompt) if strip_headers else spec.system_prompt
        self._system = self._system_message(schema_in_words)
        self._prefix = self._identity_of_prefix()
        self._names = sorted(self._template.fields)
        self._all_text = True
        self._parts_of_key = {name: _part_of_key(text_of(name, self._layout.shared)) for name in self._layout.shared}
        self._work = _digest(_part_of_key(self._prompt) + spec.task)
        self._keys = KeyMaker(self._determinants())
        self._rules_without_tools = self._rules({}, "")

    @property
    def layout(self) -> Layout:
        """Where the fields of the task stand."""
        return self._layout

    @property
    def prefix(self) -> str:
        """Identity of what all conversations begin with; empty where that is too short to matter."""
        return self._prefix

    @property
    def opening(self) -> tuple[Message, ...]:
        """What all conversations begin with, for a request that has an engine compute it in advance."""
        head = self._layout.block + self._layout.head
        return (*self._system, Message("user", head)) if head else self._system

    @property
    def makes_short_agents(self) -> bool:
        """Whether agents may end with their first reply, and nothing watches over the time until then."""
        spec = self.spec
        return not self.tools and spec.agent_timeout_s is None and spec.turn_timeout_s is None

    @property
    def conditions(self) -> str:
        """What a recorded conversation depends on that no answer does: the limit at which a model sums it up."""
        rule = self._context
        return f"{rule.by}:{rule.limit}" if rule is not None and rule.by == "model" else ""

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
                available = fields | self._declared.keys()
                self._template.check(available, f"input {index}")
                for tool in self.tools.values():
                    tool.check_grants(available, f"input {index}")

    def compile(self, index: int, values: Any) -> Job:
        """The plan for one input.

        Raises:
            InputError: The input is no mapping.
            TemplateError: A placeholder cannot be filled.
        """
        layout, fields = self._placed(values if type(values) is dict else dict(_mapping(index, values)))
        text, content = self._said(layout, fields)
        tools = {name: tool.bind(fields) for name, tool in self.tools.items()} if self.tools else self.tools
        stamps = [tool.stamp() for tool in tools.values()]
        task = Task(
            index=index,
            key=self._keys.key((Message("user", content),), stamps),
            messages=(*self._system, Message("user", layout.block + text)),
            rules=self._rules(tools, text) if tools else self._rules_without_tools,
            model=self.model,
            sampling=self.spec.sampling,
            prefix=self._prefix if layout is self._layout else "",
            timeout_s=self.spec.agent_timeout_s,
            turn_timeout_s=self.spec.turn_timeout_s,
        )
        return Job(task, tools)

    def _said(self, layout: Layout, fields: Mapping[str, Any]) -> tuple[str, str]:
        """The task of one input, and its content. After one that was not all text, none is taken for such any more."""
        if self._all_text:
            try:
                return layout.task(fields), self._content(layout, fields)
            except (KeyError, TypeError):  # a field is missing, or is no text
                self._all_text = False
        texts = self._texts(layout, fields)
        return layout.task(texts), self._content(layout, texts)

    def _placed(self, fields: Mapping[str, Any]) -> tuple[Layout, Mapping[str, Any]]:
        """The layout for an input; and with declared fields, all that it holds."""
        layout = self._layout
        if not layout.shared:
            return layout, fields
        if not layout.holds_for(fields):
            layout = self._plain
        return layout, {**self._layout.shared, **self._declared, **fields} if self._declared else fields

    def _texts(self, layout: Layout, fields: Mapping[str, Any]) -> dict[str, str]:
        """The fields of one input as they are written, those apart that stand in the layout."""
        try:
            return {
                name: value if type(value := fields.get(name)) is str else text_of(name, fields)
                for name in self._names
                if name not in layout.shared
            }
        except TemplateError:
            self._template.render(fields)  # says the same, and where in the task
            raise

    def _content(self, layout: Layout, texts: Mapping[str, str]) -> str:
        """What the input says, whatever the layout; as one text, and no two inputs the same."""
        if layout.shared:
            known = self._parts_of_key
            return self._work + "".join([known.get(name) or _part_of_key(texts[name]) for name in self._names])
        return self._work + "".join([_part_of_key(texts[name]) for name in self._names])

    def _rules(self, tools: Mapping[str, AnyTool], text: str) -> Rules:
        same = all(tools[name] is tool for name, tool in self.tools.items()) if tools else True
        protocol = self._protocol if same else self._protocol_of(tools)
        reminder = REMINDER + text if len(text) <= REPEATED_CHARS else "Now go on with the task."
        return Rules(
            output=self.output,
            protocol=protocol,
            tool_choice=self.spec.tool_choice,
            max_turns=self.spec.max_turns,
            max_retries=self.spec.max_retries,
            reminder="" if self._native else reminder,
            max_parallel=self.spec.max_parallel_tools,
            context=self._context,
        )

    def _protocol_of(self, tools: Mapping[str, AnyTool]) -> ToolProtocol:
        offered = list(tools.values())
        return NativeTools(offered, self.output) if self._native else ConstrainedStep(offered, self.output)

    def _system_message(self, schema_in_words: bool) -> tuple[Message, ...]:
        parts = [self._prompt]
        if isinstance(self._protocol, ConstrainedStep):
            parts.append(self._protocol.instructions())
        if schema_in_words and self.output.encoded is not None:
            told = "Answer with one JSON object and nothing else" if not self.tools else "The answer is one JSON object"
            parts.append(f"{told}. Its schema:\n{bytes(self.output.encoded).decode()}")
        text = "\n\n".join(part for part in parts if part)
        return (Message("system", text),) if text else ()

    def _identity_of_prefix(self) -> str:
        texts = [message.content for message in self.opening]
        enough = sum(map(len, texts)) >= PREFIX_CHARS
        return _digest("".join(map(_part_of_key, texts)))[:16] if enough else ""

    def _determinants(self) -> Determinants:
        spec = self.spec
        return Determinants(
            model=self._models,
            sampling=spec.sampling,
            schema=bytes(self.output.encoded or b""),
            tools=tuple(tool.determinant() for tool in self.tools.values()),
            max_turns=spec.max_turns,
            max_retries=spec.max_retries,
            tool_choice=spec.tool_choice,
            protocol="" if not self.tools else "native" if self._native else "constrained",
            compaction=spec.compaction if self.tools else "",
            layout=("hoisted" if spec.hoist else "") + (" in words" if self._tells_schema else ""),
            reminder="" if self._native or not self.tools else f"{REPEATED_CHARS}: {REMINDER}",
            runtime="" if spec.runtime is None else spec.runtime.determinant().hex(),
        )


def _without_servers(tools: Sequence[ToolLike]) -> list[AnyTool | Callable[..., Any]]:
    """Servers that are not opened yet have no tools to check; a run compiles with those of servers that are."""
    return [tool for tool in tools if not isinstance(tool, McpServer)]


def _part_of_key(text: str) -> str:
    """A text so that no two sequences of them are the same; a long one by its digest."""
    return f"{len(text)}:{text}" if len(text) <= LONG_CHARS else f"#{_digest(text)}"


def _digest(text: str) -> str:
    # Half a surrogate pair is refused by whoever sends it, who can say where it is.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _mapping(index: int, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(
            f"is a {type(values).__name__}, not a mapping of fields",
            source=f"input {index}",
            remedy='give each input as a dict such as {"text": ...}',
        )
    return values
