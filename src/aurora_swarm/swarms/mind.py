"""An open model as the agents of a society use it: one thought at a time, each isolated from every other."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.driver import Task, ToolReport, run_agent
from aurora_swarm.agents.native import NativeTools
from aurora_swarm.agents.protocol import ToolProtocol
from aurora_swarm.agents.steps import ConstrainedStep
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules, ToolChoice
from aurora_swarm.batch.run import context_rule
from aurora_swarm.batch.spec import Schema
from aurora_swarm.errors import AgentError
from aurora_swarm.pools.pool import Pool
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import AgentResult, Outcome

Rein = Callable[[Call], Awaitable[Call]]
"""Awaited before each call to the model: it may hold the call up, add to its conversation, or raise an `AgentError`."""


class Thought(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent is to do, and all that it knows: nothing else reaches the model.

    Args:
        prompt: The task. What is shared with other agents had better come first in it.
        system: Who it is; goes first, so that engines cache it once for all who have the same.
        schema: A pydantic model or a JSON schema that the answer is constrained to; None for free text.
        tools: What it may use; already granted and bound.
        tool_choice: ``required`` makes it use a tool before it answers.
        max_turns: Model turns at most.
        max_retries: Re-asks after an invalid answer; tools are not run again for them.
        max_tokens: Tokens to generate per turn at most; the model's own bound when None.
        timeout_s: Seconds for all of it; None for as long as its calls may take.
        agent: Id of who thinks.
        prefix: Identity of what it shares with others, for placement; empty when there is nothing.
    """

    prompt: str
    system: str = ""
    schema: Schema = None
    tools: tuple[AnyTool, ...] = ()
    tool_choice: ToolChoice = "auto"
    max_turns: int = 8
    max_retries: int = 2
    max_tokens: int | None = None
    timeout_s: float | None = None
    agent: str = ""
    prefix: str = ""


class Mind:
    """A pool with a tool pool, and the way to have a thought on them. Made by `Model.opened`.

    Args:
        pool: Who answers.
        tools: Where tools run; equal calls of a pure tool run once for all who share the mind.
        model: Name that the pool knows; empty for its own.
        sampling: How tokens are picked where a thought does not say.
    """

    def __init__(self, pool: Pool, tools: ToolPool, *, model: str = "", sampling: Sampling | None = None) -> None:
        self.pool = pool
        self.tools = tools
        self.model = model or pool.model
        self._sampling = sampling or Sampling()
        # Checking a schema takes milliseconds; the thoughts of a swarm have few of them.
        self._output_by_class = functools.lru_cache(maxsize=64)(OutputSpec)
        self._output_by_text = functools.lru_cache(maxsize=64)(lambda text: OutputSpec(msgspec.json.decode(text)))

    async def think(
        self, thought: Thought, *, purse: Purse | None = None, rein: Rein | None = None
    ) -> AgentResult[Any]:
        """Have one thought.

        Args:
            thought: What is to be done.
            purse: Bounds what is spent on it.
            rein: Awaited before each call to the model.

        Returns:
            Its result; whatever fails is in it. Cancelling cancels what is under way.

        Raises:
            SchemaError: The schema cannot be used.
        """
        granted = {tool.name: tool for tool in thought.tools}
        near: AgentEndpoint | None = None

        async def ask(call: Call) -> Outcome:
            nonlocal near
            outcome = await self.pool.ask(call if rein is None else await rein(call), near=near)
            near = outcome.endpoint
            return outcome

        async def use(call: ToolCall, again: bool) -> ToolReport:
            answer = await self.tools.call(call, granted, again=again)
            return ToolReport(answer.text, answer.executed, answer.in_doubt)

        try:
            return await run_agent(await self._task(thought), ask, use, purse=purse)
        except AgentError as error:  # a rein's, before a first call that was placed ahead of the conversation
            return AgentResult(index=0, key=thought.agent, ok=False, output=None, error=error)

    async def _task(self, thought: Thought) -> Task:
        output = self._output(thought.schema)
        protocol = self._protocol(thought.tools, output) if thought.tools else None
        native = isinstance(protocol, NativeTools)
        sampling = self._sampling
        if thought.max_tokens is not None:
            sampling = msgspec.structs.replace(sampling, max_tokens=thought.max_tokens)
        return Task(
            index=0,
            key=thought.agent,
            messages=(*self._system(thought, output, protocol), Message("user", thought.prompt)),
            rules=Rules(
                output=output,
                protocol=protocol,
                tool_choice=thought.tool_choice,
                max_turns=thought.max_turns,
                max_retries=thought.max_retries,
                reminder="" if native else "Now go on with the task.",
                context=await context_rule("heuristic", self.pool, sampling.max_tokens) if thought.tools else None,
            ),
            model=self.model,
            sampling=sampling,
            prefix=thought.prefix,
            timeout_s=thought.timeout_s,
        )

    def _output(self, schema: Schema) -> OutputSpec:
        if schema is None or isinstance(schema, type):
            return self._output_by_class(schema)
        try:
            return self._output_by_text(msgspec.json.encode(dict(schema)))
        except (TypeError, ValueError):  # what no JSON can carry is refused in a sentence
            return OutputSpec(schema)

    def _protocol(self, tools: tuple[AnyTool, ...], output: OutputSpec) -> ToolProtocol:
        return (NativeTools if self.pool.capabilities.native_tools else ConstrainedStep)(tools, output)

    def _system(self, thought: Thought, output: OutputSpec, protocol: ToolProtocol | None) -> tuple[Message, ...]:
        parts = [thought.system]
        if isinstance(protocol, ConstrainedStep):
            parts.append(protocol.instructions())
        # An engine that is not held to a schema, or not in a turn with tools, is told of it in words.
        if output.encoded is not None and (isinstance(protocol, NativeTools) or not self.pool.capabilities.schemas):
            parts.append(f"The answer is one JSON object. Its schema:\n{bytes(output.encoded).decode()}")
        text = "\n\n".join(part for part in parts if part)
        return (Message("system", text),) if text else ()
