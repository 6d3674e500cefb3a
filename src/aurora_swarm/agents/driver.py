"""Runs one agent to its end and makes one result of whatever comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.living import CallFailedError, LivingAgent
from aurora_swarm.agents.short import ended_at_once, first_call, may_be_short
from aurora_swarm.agents.task import AskModel, Keep, Recorded, Task, ToolReport, UseTool
from aurora_swarm.agents.turns import Answer
from aurora_swarm.errors import AgentError, AgentTimeoutError, AuroraSwarmError, BudgetError
from aurora_swarm.values.outcome import AgentResult, Outcome

__all__ = ["AskModel", "Keep", "Recorded", "Task", "ToolReport", "UseTool", "run_agent"]


async def run_agent(
    task: Task,
    ask: AskModel,
    use: UseTool,
    *,
    recorded: Sequence[Recorded] = (),
    keep: Keep | None = None,
    purse: Purse | None = None,
    first: Outcome | None = None,
    began_s: float | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> AgentResult[Any]:
    """Run one agent to its end.

    Args:
        task: What it is to do.
        ask: Places a call.
        use: Calls a tool.
        recorded: What an interrupted run of this agent heard, as `keep` was given it. Nothing of it is asked, executed
            or paid for again; it is counted in the result all the same. What does not fit is dropped, with all after
            it.
        keep: Awaited with what was heard, before anything that follows from it is begun. Not given the reply that ends
            the conversation, which the result holds.
        purse: Bounds what is spent; each step is reserved in it before and settled after, also when it fails.
        first: What came of its first call, where that was made already and has a reply.
        began_s: When it began, on the loop's clock; now when None.
        loop: The running one, for who knows it: asking for it is a system call.

    Returns:
        Its result; whatever fails is in it. Cancelling cancels what is under way and is not swallowed; a tool that
        swallows it is closed after a second.

    Raises:
        Exception: Whatever `keep` raised; the agent ends there.
    """
    loop = loop or asyncio.get_running_loop()
    now = loop.time
    began_s = now() if began_s is None else began_s
    if first is None and purse is None and not recorded and may_be_short(task):
        first = await ask(first_call(task))
        result = ended_at_once(task, first, now() - began_s)
        if result is not None:
            return result
    agent = LivingAgent(task, ask, use, keep, purse, loop=loop)
    if first is not None:
        recorded = await agent.take_up(first)
    answer: Answer | None = None
    error: AuroraSwarmError | None = None
    try:
        if purse is not None:
            answer = await _bounded(agent, recorded, task, purse, began_s)
        elif task.timeout_s is not None:
            answer = await _in_time(agent.live(recorded), task.timeout_s, _too_slow(task.timeout_s))
        else:
            answer = await agent.live(recorded)
    except CallFailedError as failed:
        error = failed.error
    except AgentError as failed:
        error = failed
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
        latency_s=now() - began_s,
        endpoint=agent.endpoint,
        ttft_s=agent.ttft_s,
        in_doubt=agent.in_doubt,
        replayed=agent.replayed - (first is not None),
    )


async def _bounded(agent: LivingAgent, recorded: Sequence[Recorded], task: Task, purse: Purse, now: float) -> Answer:
    """Lead an agent within what a purse allows it, time included."""
    purse.enter(now)
    try:
        limit_s, left_s = task.timeout_s, purse.left_s(now)
        if left_s is not None and (limit_s is None or left_s < limit_s):
            problem = f"the time is over: {left_s:.3g} s of wall_s were left when the agent began"
            return await _in_time(agent.live(recorded), left_s, BudgetError(problem, bound="wall_s"))
        if limit_s is not None:
            return await _in_time(agent.live(recorded), limit_s, _too_slow(limit_s))
        return await agent.live(recorded)
    finally:
        purse.leave()


async def _in_time(living: Coroutine[Any, Any, Answer], limit_s: float, late: AgentError) -> Answer:
    """Await an agent; raise `late` when it takes too long. A `TimeoutError` of somebody else passes unchanged."""
    clock = asyncio.timeout(limit_s)
    try:
        async with clock:
            return await living
    except TimeoutError:
        if not clock.expired():
            raise
        raise late from None


def _too_slow(limit_s: float) -> AgentTimeoutError:
    return AgentTimeoutError(f"the agent took longer than {limit_s:g} s", remedy="allow more with agent_timeout")
