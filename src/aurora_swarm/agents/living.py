"""One agent under way: what it asks, calls and hears, and what that has taken so far."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.endings import endable
from aurora_swarm.agents.paying import reserved
from aurora_swarm.agents.task import AskModel, Keep, Recorded, Task, ToolReport, UseTool
from aurora_swarm.agents.turns import Answer, Ask, Heard, Step, converse
from aurora_swarm.errors import AgentTimeoutError, AuroraSwarmError
from aurora_swarm.values.call import Call
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Reply, Usage


class CallFailedError(Exception):
    """Carries a call's error out of the conversation.

    Args:
        error: Why there was no answer.
    """

    def __init__(self, error: AuroraSwarmError) -> None:
        super().__init__(error)
        self.error = error


class LivingAgent:
    """One agent, and what it has spent.

    Args:
        task: What it is to do.
        ask: Places a call.
        use: Calls a tool.
        keep: Makes durable what it hears, or None.
        purse: Bounds what it spends, or None.
        loop: The running one.

    Attributes:
        turns: Model turns taken, as all below also those of the recording.
        attempts: Requests sent.
        usage: Tokens spent.
        tool_calls: Tool calls that the model asked for.
        tools_executed: Those that ran for this agent.
        in_doubt: Those that were not made again because they may have happened.
        replayed: Replies of the recording.
        endpoint: URL of who answered last.
        text: The model's last text.
        ttft_s: Seconds to the first token of the first reply, where that is known.
    """

    def __init__(
        self,
        task: Task,
        ask: AskModel,
        use: UseTool,
        keep: Keep | None,
        purse: Purse | None,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._task = task
        self._ask = ask
        self._use = use
        self._keep = keep
        self._purse = purse
        self._heard = 0
        self.turns = 0
        self.attempts = 0
        self.usage = Usage()
        self.tool_calls = 0
        self.tools_executed = 0
        self.in_doubt = 0
        self.replayed = 0
        self.endpoint = ""
        self.text = ""
        self.ttft_s: float | None = None

    async def live(self, recorded: Sequence[Recorded]) -> Answer:
        """Lead the conversation to its end.

        Args:
            recorded: What was heard in an earlier run; what does not fit is dropped with all after it.

        Raises:
            CallFailedError: A call to the model failed.
            AgentError: Whatever else ends an agent.
        """
        turns = converse(self._task.rules, self._task.messages)
        try:
            step = next(turns)
            for heard in recorded:
                if not _fits(step, heard):
                    break
                self._note(step, heard)
                self.replayed += isinstance(heard, Reply)
                step = turns.send(_words(heard))
            # Whether tools were begun before the interruption nobody knows, where they are the first step after it.
            again = self._heard > 0
            while True:
                if isinstance(step, Ask):
                    heard = await self._asked(step)
                elif self._purse is None:
                    heard = await self._run(step.calls, again)
                else:
                    heard = await self._run_paid(step.calls, again, self._purse)
                again = False
                self._note(step, heard)
                step = turns.send(_words(heard))
                if self._keep is not None:
                    await self._keep(self._heard - 1, heard)
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    async def take_up(self, outcome: Outcome) -> tuple[Recorded, ...]:
        """A first call was made for this agent, and its reply does not end the conversation.

        Args:
            outcome: What came of that call; it has a reply.

        Returns:
            What was heard so far, to go on from.
        """
        self._count(outcome)
        assert outcome.reply is not None
        # Without re-asks it is the end after all: a failure is not kept, or resuming would only repeat it.
        if self._keep is not None and self._task.rules.max_retries:
            await self._keep(0, outcome.reply)
        return (outcome.reply,)

    def _count(self, outcome: Outcome) -> None:
        self.endpoint = outcome.endpoint.url if outcome.endpoint else self.endpoint
        self.attempts += len(outcome.failures)

    def _note(self, step: Step, heard: Recorded) -> None:
        """Count what was heard, now or in an earlier run."""
        self._heard += 1
        if not isinstance(heard, Reply):
            self.tool_calls += len(heard)
            for report in heard:
                self.tools_executed += report.executed
                self.in_doubt += report.in_doubt
            return
        assert isinstance(step, Ask)
        self.turns = max(self.turns, step.turn + 1)
        self.attempts += 1
        self.usage += heard.usage
        self.text = heard.text
        if self._heard == 1:
            self.ttft_s = heard.ttft_s

    # -- asking ------------------------------------------------------------------------------------------------

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
        limit_s = task.turn_timeout_s
        if limit_s is not None:
            outcome = await self._within(call, limit_s)
        else:  # as few frames as can be wait for the answer
            outcome = await (self._ask(call) if self._purse is None else self._placed(call))
        self._count(outcome)
        if outcome.reply is None:
            self.turns = max(self.turns, step.turn + 1)
            assert outcome.error is not None
            raise CallFailedError(outcome.error)
        return outcome.reply

    async def _placed(self, call: Call) -> Outcome:
        purse = self._purse
        if purse is None:
            return await self._ask(call)
        call, hold = await reserved(purse, call)
        outcome: Outcome | None = None
        try:
            outcome = await self._ask(call)
            return outcome
        finally:
            purse.settle(hold, outcome)

    async def _within(self, call: Call, limit_s: float) -> Outcome:
        clock = asyncio.timeout(limit_s)
        try:
            async with clock:
                return await self._placed(call)
        except TimeoutError:
            if not clock.expired():
                raise
            self.turns = max(self.turns, call.turn + 1)
            problem = f"turn {call.turn + 1} took longer than {limit_s:g} s"
            raise AgentTimeoutError(problem, remedy="allow more with turn_timeout") from None

    # -- using tools -------------------------------------------------------------------------------------------

    async def _run_paid(self, calls: Sequence[ToolCall], again: bool, purse: Purse) -> list[ToolReport]:
        hold = purse.reserve_tools(len(calls), self._loop.time())
        executed = len(calls)
        try:
            reports = await self._run(calls, again)
            executed = sum(report.executed for report in reports)
            return reports
        finally:
            purse.settle_tools(hold, executed)

    async def _run(self, calls: Sequence[ToolCall], again: bool) -> list[ToolReport]:
        """The reports on calls in their order; no more of them under way at a time than the rules allow."""
        if len(calls) == 1:
            return [await endable(self._use(calls[0], again), loop=self._loop)]
        reports: dict[int, ToolReport] = {}
        waiting = iter(enumerate(calls))

        async def work() -> None:
            for place, call in waiting:
                reports[place] = await endable(self._use(call, again), loop=self._loop)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(calls), self._task.rules.max_parallel)):
                    group.create_task(work())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [reports[place] for place in range(len(calls))]


def _words(heard: Recorded) -> Heard:
    return heard if isinstance(heard, Reply) else [report.text for report in heard]


def _fits(step: Step, heard: Recorded) -> bool:
    """Whether something recorded is what a step waits for."""
    if isinstance(step, Ask):
        return isinstance(heard, Reply)
    return not isinstance(heard, Reply) and len(heard) == len(step.calls)
