"""An agent: a model, a memory, tools and instructions, as a definition that nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from hashlib import blake2b
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.turns import ToolChoice
from aurora_swarm.batch.spec import Schema
from aurora_swarm.errors import UsageError
from aurora_swarm.ports.store import Collection
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.memory_tools import RECALL, REMEMBER, Memory
from aurora_swarm.swarms.mind import Mind, Rein, Thought
from aurora_swarm.swarms.models import Model
from aurora_swarm.tools.definition import AnyTool, as_tool
from aurora_swarm.values.outcome import AgentResult

WORTH_SHARING = 512
"""Characters of a common beginning from which on prompts are placed by it."""


class _Thinker(msgspec.Struct, frozen=True, eq=False):
    model: Model


class Agent(_Thinker, frozen=True, kw_only=True, eq=False):
    """Who can be set a task. Immutable, and shared by any number of workers: what one run learns is in its result only.

    Args:
        model: What it thinks with.
        name: What people call it; not told to the model, so that equal agents have equal prompts.
        instructions: Who it is and how it works.
        memory: Where it remembers: a `Memory`, a collection, or the URL of a store. It then has the tools ``remember``
            and ``recall``. None for none.
        tools: What it may use: tools, or typed functions.
        skills: What it is good at, by which tasks are given out.
        output_schema: What its answers are constrained to where a task does not say; None for text.
        tool_choice: ``required`` makes it use a tool before it answers; small models need that.
        max_turns: Model turns of one task at most.
        max_retries: Re-asks after an invalid answer.
        id: Its id; one is made when empty.

    Raises:
        UsageError: Two tools have one name, or a number is out of range.
        ToolDefinitionError: A function cannot be offered as a tool.
    """

    name: str
    instructions: str = ""
    memory: Memory | Collection | str | None = None
    tools: Sequence[AnyTool | Callable[..., Any]] = ()
    skills: Sequence[str] = ()
    output_schema: Schema = None
    tool_choice: ToolChoice = "auto"
    max_turns: int = 8
    max_retries: int = 2
    id: str = ""

    def __post_init__(self) -> None:
        memory = self.memory
        settled: dict[str, object] = {
            "memory": memory if isinstance(memory, Memory | None) else Memory(memory),
            "tools": tuple(map(as_tool, self.tools)),
            "skills": (self.skills,) if isinstance(self.skills, str) else tuple(self.skills),
            "id": self.id or new_id(),
        }
        for field, value in settled.items():
            msgspec.structs.force_setattr(self, field, value)
        _check(self)

    @property
    def system(self) -> str:
        """Who it is, as its model is told first: the same for every task."""
        skills = f"You are good at: {', '.join(self.skills)}." if self.skills else ""
        return "\n\n".join(part for part in (self.instructions, skills) if part)

    async def run(
        self,
        task: str,
        *,
        schema: Schema = None,
        purse: Purse | None = None,
        rein: Rein | None = None,
        mind: Mind | None = None,
    ) -> AgentResult[Any]:
        """Do one task.

        Args:
            task: What is to be done; sent unchanged.
            schema: What the answer is constrained to; the agent's own when None.
            purse: Bounds what is spent.
            rein: As for `Mind.think`.
            mind: Whom to ask; its model is opened for this task when None.

        Returns:
            The result; its `output` is the answer, and what failed while it ran is in it. Cancelling ends what is
            under way.

        Raises:
            UsageError: The model or the memory cannot be opened.
            SchemaError: The schema cannot be used.
        """
        if mind is not None:
            return await self.perform(task, mind, schema=schema, purse=purse, rein=rein)
        async with self.model.opened() as own:
            return await self.perform(task, own, schema=schema, purse=purse, rein=rein)

    async def perform(
        self,
        prompt: str,
        mind: Mind,
        *,
        who: str = "",
        task: str = "",
        shared: str = "",
        schema: Schema = None,
        tools: Sequence[AnyTool] = (),
        timeout_s: float | None = None,
        purse: Purse | None = None,
        rein: Rein | None = None,
    ) -> AgentResult[Any]:
        """Do one task on behalf of a worker.

        Args:
            prompt: All that is told of the task.
            mind: Whom to ask.
            who: Who does it: signs what is remembered; the agent itself when empty.
            task: Id of the task; one is made when empty.
            shared: How the prompt begins that other workers get too, for placement.
            schema: As for `run`.
            tools: Further tools, for this task.
            timeout_s: Seconds for all of it.
            purse: As for `run`.
            rein: As for `run`.

        Returns:
            As of `run`.

        Raises:
            UsageError: The memory cannot be opened.
            SchemaError: The schema cannot be used.
        """
        who, task = who or self.id, task or new_id()
        async with AsyncExitStack() as stack:
            granted = (*_tools_of(self), *tools)
            if isinstance(self.memory, Memory):
                granted += await stack.enter_async_context(self.memory.tools(who=who, task=task))
            thought = Thought(
                prompt=prompt,
                system=self.system,
                schema=self.output_schema if schema is None else schema,
                tools=granted,
                tool_choice=self.tool_choice if granted else "auto",
                max_turns=self.max_turns,
                max_retries=self.max_retries,
                timeout_s=timeout_s,
                agent=who,
                prefix=_identity(self.system + shared),
            )
            return await mind.think(thought, purse=purse, rein=rein)


def _tools_of(agent: Agent) -> tuple[AnyTool, ...]:
    return tuple(map(as_tool, agent.tools))


def _identity(beginning: str) -> str:
    if len(beginning) < WORTH_SHARING:
        return ""
    return blake2b(beginning.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _check(agent: Agent) -> None:
    names = [tool.name for tool in _tools_of(agent)]
    names += [REMEMBER.name, RECALL.name] if agent.memory is not None else []
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"agent {agent.name}: two tools are called {twice[0]}", remedy="give one another name")
    if agent.max_turns < 1 or agent.max_retries < 0:
        problem = f"agent {agent.name}: max_turns is {agent.max_turns} and max_retries is {agent.max_retries}"
        raise UsageError(problem, remedy="give at least one turn, and retries from 0 on")
