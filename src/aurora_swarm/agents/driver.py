"""Runs one agent: asks and calls tools as the turn machine says, and turns whatever comes of it into one result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from aurora_swarm.agents.turns import Answer, Ask, Rules, Step, converse
from aurora_swarm.errors import AgentError, AgentTimeoutError, AuroraSwarmError
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import AgentResult, Outcome
from aurora_swarm.values.reply import Reply, Usage

AskModel = Callable[[Call], Awaitable[Outcome]]
UseTool = Callable[[ToolCall], Awaitable["ToolReport"]]


class ToolReport(msgspec.Struct, frozen=True):
    """What a tool call came to.

    Args:
        text: What the model is told.
        executed: Whether the tool ran for this call, rather than for another one.
    """

    text: str
    executed: bool


class Task(msgspec.Struct, frozen=True):
    """What one agent is to do.

    Args:
        index: Position of its input.
        key: Content key of its input.
        messages: How the conversation begins.
        rules: What bounds it.
        model: Model name.
        sampling: How tokens are picked.
        prefix: Identity of the shared prefix.
        timeout_s: Time for the whole agent; None for as long as its calls may take.
    """

    index: int
    key: str
    messages: tuple[Message, ...]
    rules: Rules
    model: str = ""
    sampling: Sampling = Sampling()
    prefix: str = ""
    timeout_s: float | None = None


class _CallFailedError(Exception):
    """Carries a call's error out of the conversation."""

    def __init__(self, error: AuroraSwarmError) -> None:
        super().__init__(error)
        self.error = error


class _Agent:
    """One agent under way, and what it has spent."""

    def __init__(self, task: Task, ask: AskModel, use: UseTool) -> None:
        self._task = task
        self._ask = ask
        self._use = use
        self.turns = 0
        self.attempts = 0
        self.usage = Usage()
        self.tool_calls = 0
        self.tools_executed = 0
        self.endpoint = ""
        self.text = ""

    async def live(self) -> Answer:
        turns = converse(self._task.rules, self._task.messages)
        try:
            step = next(turns)
            while True:
                step = turns.send(await self._heard(step))
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    async def _heard(self, step: Step) -> Reply | Sequence[str]:
        if isinstance(step, Ask):
            return await self._asked(step)
        # Each call id is answered exactly once, in order; several wait together.
        self.tool_calls += len(step.calls)
        reports = await asyncio.gather(*(self._use(call) for call in step.calls))
        self.tools_executed += sum(report.executed for report in reports)
        return [report.text for report in reports]

    async def _asked(self, step: Ask) -> Reply:
        task = self._task
        call = Call(
            messages=step.messages,
            model=task.model,
            sampling=task.sampling,
            schema=step.schema,
            agent=task.key,
            turn=step.turn,
            turns_left=step.turns_left,
            prefix=task.prefix,
        )
        outcome = await self._ask(call)
        self.turns = max(self.turns, step.turn + 1)
        self.attempts += outcome.attempts
        self.endpoint = outcome.endpoint.url if outcome.endpoint else self.endpoint
        if outcome.reply is None:
            assert outcome.error is not None
            raise _CallFailedError(outcome.error)
        self.usage += outcome.reply.usage
        self.text = outcome.reply.text
        return outcome.reply


async def run_agent(task: Task, ask: AskModel, use: UseTool) -> AgentResult[Any]:
    """Run one agent to its end.

    Args:
        task: What it is to do.
        ask: Places a call; never raises for a failed one.
        use: Calls a tool; a failing tool is a report, not an exception.

    Returns:
        Its result; whatever fails is in it. Cancelling cancels what is under way and is not swallowed.
    """
    agent = _Agent(task, ask, use)
    began = asyncio.get_running_loop().time()
    answer: Answer | None = None
    error: AuroraSwarmError | None = None
    clock = asyncio.timeout(task.timeout_s)
    try:
        async with clock:
            answer = await agent.live()
    except _CallFailedError as failed:
        error = failed.error
    except AgentError as failed:
        error = failed
    except TimeoutError:
        if not clock.expired():
            raise
        error = AgentTimeoutError(
            f"the agent took longer than {task.timeout_s:g} s", remedy="allow more with agent_timeout"
        )
    return AgentResult(
        index=task.index,
        key=task.key,
        ok=answer is not None,
        output=answer.value if answer else None,
        error=error,
        text=agent.text,
        attempts=agent.attempts,
        turns=agent.turns,
        usage=agent.usage,
        tool_calls=agent.tool_calls,
        tools_executed=agent.tools_executed,
        repaired=answer.repaired if answer else False,
        latency_s=asyncio.get_running_loop().time() - began,
        endpoint=agent.endpoint,
    )
