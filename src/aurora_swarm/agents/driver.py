"""Runs one agent: asks and calls tools as the turn machine says, and turns whatever comes of it into one result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec

from aurora_swarm.agents.endings import endable
from aurora_swarm.agents.turns import Answer, Ask, Heard, Rules, Step, converse
from aurora_swarm.errors import AgentError, AgentTimeoutError, AuroraSwarmError
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import AgentResult, Outcome
from aurora_swarm.values.reply import Reply, Usage

AskModel = Callable[[Call], Awaitable[Outcome]]
UseTool = Callable[[ToolCall, bool], Awaitable["ToolReport"]]
Keep = Callable[[int, Heard], Awaitable[None]]


class ToolReport(msgspec.Struct, frozen=True):
    """What a tool call came to.

    Args:
        text: What the model is told.
        executed: Whether the tool ran for this call, rather than for another one.
        in_doubt: Whether an interrupted run may have made the call already, so that it was not made again.
    """

    text: str
    executed: bool
    in_doubt: bool = False


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
        turn_timeout_s: Time for one call to the model, waiting included; None for no bound of its own.
    """

    index: int
    key: str
    messages: tuple[Message, ...]
    rules: Rules
    model: str = ""
    sampling: Sampling = Sampling()
    prefix: str = ""
    timeout_s: float | None = None
    turn_timeout_s: float | None = None


class _CallFailedError(Exception):
    """Carries a call's error out of the conversation."""

    def __init__(self, error: AuroraSwarmError) -> None:
        super().__init__(error)
        self.error = error


class _Agent:
    """One agent under way, and what it has spent."""

    def __init__(self, task: Task, ask: AskModel, use: UseTool, keep: Keep | None) -> None:
        self._task = task
        self._ask = ask
        self._use = use
        self._keep = keep
        self._heard = 0
        self.turns = 0
        self.attempts = 0
        self.usage = Usage()
        self.tool_calls = 0
        self.tools_executed = 0
        self.in_doubt = 0
        self.endpoint = ""
        self.text = ""
        self.ttft_s: float | None = None

    async def live(self, recorded: Sequence[Heard]) -> Answer:
        turns = converse(self._task.rules, self._task.messages)
        try:
            step = next(turns)
            for heard in recorded:
                if not _fits(step, heard):
                    break
                self._note(step, heard)
                step = turns.send(heard)
            # Whether tools were begun before the interruption nobody knows, where they are the first step after it.
            again = self._heard > 0
            while True:
                if isinstance(step, Ask):
                    heard = await self._asked(step)
                else:
                    heard = await self._used(step.calls, again)
                again = False
                self._note(step, heard)
                number = self._heard - 1
                step = turns.send(heard)
                if self._keep is not None:
                    await self._keep(number, heard)
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    def _note(self, step: Step, heard: Heard) -> None:
        """Count what was heard, now or in an earlier run."""
        first = not self._heard
        self._heard += 1
        if not isinstance(step, Ask):
            self.tool_calls += len(step.calls)
            return
        assert isinstance(heard, Reply)
        self.turns = max(self.turns, step.turn + 1)
        self.attempts += 1
        self.usage += heard.usage
        self.text = heard.text
        if first:
            self.ttft_s = heard.ttft_s

    async def _used(self, calls: Sequence[ToolCall], again: bool) -> list[str]:
        if len(calls) == 1:
            reports = [await endable(self._use(calls[0], again))]
        else:
            reports = await self._together(calls, again)
        for report in reports:
            self.tools_executed += report.executed
            self.in_doubt += report.in_doubt
        return [report.text for report in reports]

    async def _together(self, calls: Sequence[ToolCall], again: bool) -> list[ToolReport]:
        """The reports on several calls in their order; no more of them under way at a time than the rules allow."""
        reports: dict[int, ToolReport] = {}
        waiting = iter(enumerate(calls))

        async def work() -> None:
            for place, call in waiting:
                reports[place] = await endable(self._use(call, again))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(calls), self._task.rules.max_parallel)):
                    group.create_task(work())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [reports[place] for place in range(len(calls))]

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
            tools=step.tools,
            tool_choice=step.tool_choice,
        )
        if task.turn_timeout_s is None:
            outcome = await self._ask(call)
        else:
            outcome = await self._within(call, task.turn_timeout_s)
        self.endpoint = outcome.endpoint.url if outcome.endpoint else self.endpoint
        if outcome.reply is None:
            self.turns = max(self.turns, step.turn + 1)
            self.attempts += outcome.attempts
            assert outcome.error is not None
            raise _CallFailedError(outcome.error)
        self.attempts += len(outcome.failures)
        return outcome.reply

    async def _within(self, call: Call, limit_s: float) -> Outcome:
        clock = asyncio.timeout(limit_s)
        try:
            async with clock:
                return await self._ask(call)
        except TimeoutError:
            if not clock.expired():
                raise
            self.turns = max(self.turns, call.turn + 1)
            problem = f"turn {call.turn + 1} took longer than {limit_s:g} s"
            raise AgentTimeoutError(problem, remedy="allow more with turn_timeout") from None


async def _in_time(living: Coroutine[Any, Any, Answer], limit_s: float | None) -> Answer:
    if limit_s is None:
        return await living
    clock = asyncio.timeout(limit_s)
    try:
        async with clock:
            return await living
    except TimeoutError:
        if not clock.expired():
            raise
        problem = f"the agent took longer than {limit_s:g} s"
        raise AgentTimeoutError(problem, remedy="allow more with agent_timeout") from None


def _fits(step: Step, heard: Heard) -> bool:
    """Whether something recorded is what a step waits for."""
    if isinstance(step, Ask):
        return isinstance(heard, Reply)
    return not isinstance(heard, Reply | str) and len(heard) == len(step.calls)


async def run_agent(
    task: Task,
    ask: AskModel,
    use: UseTool,
    *,
    recorded: Sequence[Heard] = (),
    keep: Keep | None = None,
) -> AgentResult[Any]:
    """Run one agent to its end.

    Args:
        task: What it is to do.
        ask: Places a call; never raises for a failed one.
        use: Calls a tool; a failing tool is a report, not an exception. It is also told whether an interrupted run may
            have made the call already.
        recorded: What an interrupted run of this agent heard, as `keep` was given it. Nothing of it is asked or
            executed again; it is counted in the result all the same. What does not fit is dropped, with all after it.
        keep: Makes durable what was heard, before anything that follows from it is begun: told the place in the
            conversation (0, 1, 2 ...) and the reply or the tools' answers. Not told of the reply that ends the
            conversation, which the result holds.

    Returns:
        Its result; whatever fails is in it. Cancelling cancels what is under way and is not swallowed; a tool that
        swallows it is closed after a second.

    Raises:
        Exception: Whatever `keep` raised; the agent ends there.
    """
    agent = _Agent(task, ask, use, keep)
    began = asyncio.get_running_loop().time()
    answer: Answer | None = None
    error: AuroraSwarmError | None = None
    try:
        answer = await _in_time(agent.live(recorded), task.timeout_s)
    except _CallFailedError as failed:
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
        latency_s=asyncio.get_running_loop().time() - began,
        endpoint=agent.endpoint,
        ttft_s=agent.ttft_s,
        in_doubt=agent.in_doubt,
    )
