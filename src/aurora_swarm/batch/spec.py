"""What a batch is asked to do, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, get_args

import msgspec
from pydantic import BaseModel

from aurora_swarm.agents.turns import ToolChoice
from aurora_swarm.errors import UsageError
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.tools.mcp.server import McpServer
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.outcome import AgentResult

ToolLike = AnyTool | Callable[..., Any] | McpServer
Schema = type[BaseModel] | Mapping[str, Any] | None
ToolProtocol = Literal["auto", "native", "constrained"]
Compaction = Literal["off", "heuristic", "model"]


class Runtime(Protocol):
    """What leads an agent in place of our own turns: a process of its own (`aurora_swarm.agents.coding.OpenCode`)."""

    def check(self) -> None:
        """Make sure that agents can be run, before any is.

        Raises:
            UsageError: They cannot.
        """

    def determinant(self) -> bytes:
        """What of it determines an agent's answer."""

    async def run(
        self, task: str, *, endpoint_url: str, model: str, timeout_s: float, api_key: str, index: int, key: str
    ) -> AgentResult[Any]:
        """Run one agent to its end; whatever fails is in the result."""


class BatchSpec(msgspec.Struct, frozen=True):
    """One batch.

    Args:
        task: Template of the user message; ``{name}`` is replaced by a field of each input.
        system_prompt: The same for all; goes first, so that engines cache it once.
        tools: What the agents may use.
        output_schema: A pydantic model or a JSON schema; None for free text.
        tool_choice: ``required`` makes each agent use a tool before it answers.
        max_turns: Model turns per agent at most.
        max_retries: Re-asks after an invalid answer.
        sampling: How tokens are picked.
        agent_timeout_s: Time for one agent; None for as long as its calls may take.
        turn_timeout_s: Time for one model turn, its retries and its waiting included; None for no bound of its own.
        tool_protocol: ``native`` for the server's own tool calls, ``constrained`` for steps held to a schema, ``auto``
            for what is known of the backend.
        max_parallel_tools: Tool calls of one agent under way at a time.
        compaction: What happens to a conversation that outgrows the model's context: older parts are shortened by
            rule (``heuristic``), summed up by the model (``model``), or the agent fails (``off``).
        runtime: What leads each agent in place of our own turns; its answer is what it gives. None for our own.
        hoist: Whether fields that are the same for all inputs are said once, in front, so that engines cache them.

    Raises:
        UsageError: `task` is empty, or a number is out of range.
    """

    task: str
    system_prompt: str = ""
    tools: tuple[ToolLike, ...] = ()
    output_schema: Schema = None
    tool_choice: ToolChoice = "auto"
    max_turns: int = 8
    max_retries: int = 2
    sampling: Sampling = Sampling()
    agent_timeout_s: float | None = None
    turn_timeout_s: float | None = None
    tool_protocol: ToolProtocol = "auto"
    max_parallel_tools: int = 8
    compaction: Compaction = "heuristic"
    runtime: Runtime | None = None
    hoist: bool = True

    def __post_init__(self) -> None:
        problem = _first_problem(self)
        if problem is not None:
            raise UsageError(problem[0], remedy=problem[1])


def _first_problem(spec: BatchSpec) -> tuple[str, str] | None:
    least_turns = 2 if spec.tool_choice == "required" else 1
    checks = (
        (not spec.task.strip(), "task is empty", "say what each agent is to do, for example 'Summarise: {text}'"),
        (
            spec.max_turns < least_turns,
            f"max_turns is {spec.max_turns}",
            f"give at least {least_turns}: an agent needs a turn to answer, and one more to use a tool before",
        ),
        (spec.max_retries < 0, f"max_retries is {spec.max_retries}", "give 0 or more"),
        (
            spec.tool_choice == "required" and not spec.tools,
            "tool_choice is 'required' and there are no tools",
            "give tools, or leave tool_choice at 'auto'",
        ),
        (
            spec.agent_timeout_s is not None and not spec.agent_timeout_s > 0,
            f"agent_timeout is {spec.agent_timeout_s}",
            "give a number of seconds above 0",
        ),
        (
            spec.turn_timeout_s is not None and not spec.turn_timeout_s > 0,
            f"turn_timeout is {spec.turn_timeout_s}",
            "give a number of seconds above 0",
        ),
        (
            spec.runtime is not None and bool(spec.tools or spec.output_schema),
            "a runtime is given together with tools or output_schema",
            "leave them out: a runtime has tools and an answer of its own",
        ),
        (spec.max_parallel_tools < 1, f"max_parallel_tools is {spec.max_parallel_tools}", "give at least 1"),
        *(
            (value not in allowed, f"{name} is {value!r}", f"give one of: {', '.join(allowed)}")
            for name, value, allowed in (
                ("tool_protocol", spec.tool_protocol, get_args(ToolProtocol)),
                ("compaction", spec.compaction, get_args(Compaction)),
            )
        ),
    )
    return next(((problem, remedy) for wrong, problem, remedy in checks if wrong), None)
