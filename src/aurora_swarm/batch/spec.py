"""What a batch is asked to do, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pydantic import BaseModel

from aurora_swarm.agents.turns import ToolChoice
from aurora_swarm.errors import UsageError
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.values.call import Sampling

ToolLike = AnyTool | Callable[..., Any]
Schema = type[BaseModel] | Mapping[str, Any] | None


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
    )
    return next(((problem, remedy) for wrong, problem, remedy in checks if wrong), None)
