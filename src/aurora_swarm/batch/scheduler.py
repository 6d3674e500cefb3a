"""Runs the agents of a batch: as many as there are slots to keep busy, each to its end, each result durable first."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.driver import ToolReport, run_agent
from aurora_swarm.batch.compiler import Job, TaskCompiler
from aurora_swarm.batch.demand import Entry, Seat, Slots
from aurora_swarm.batch.ledger import Ledger, Page
from aurora_swarm.batch.spec import Runtime
from aurora_swarm.batch.warming import Prefetcher
from aurora_swarm.errors import CallbackError, StorageError, UsageError
from aurora_swarm.pools.flow import as_they_finish
from aurora_swarm.pools.pool import Pool
from aurora_swarm.ports.sink import Sink
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.call import Call
from aurora_swarm.values.event import AgentEnded, AgentStarted, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.outcome import AgentResult, Outcome

OnResult = Callable[[AgentResult[Any]], object]

AGENTS_PER_SLOT = 32
"""Agents under way per inference slot at most: those that wait for tools hold no slot, but they hold memory."""

RUNTIME_TIMEOUT_S = 1800.0
"""What an agent of a runtime may take where nobody says."""


class WaveScheduler:
    """Schedules agents over a pool. There are no waves that wait: a slot that comes free is used at once.

    Nearly finished agents go first; a new one starts when a slot is free and no started one is ready for it. Where all
    tools are quick an agent keeps its slot while they run: its next turn then finds its own prefix in the engine's
    slot, which a new agent would have overwritten in the meantime.

    Args:
        compiler: Makes jobs of inputs.
        pool: Where the model is.
        tools: Where the tools are.
        ledger: Keeps finished work, and the turns of what is not finished.
        sink: Is told what happens.
        max_inflight: Model calls of this batch under way at a time; None for what the pool can take.
        purse: What the run may spend; None for no bound.
        prefetcher: Has an agent's prefix ready when its tool returns; None for nobody.
        api_key: For a runtime that asks the servers itself.
        on_result: Called with each result once it is durable; may be a coroutine function.
    """

    def __init__(
        self,
        compiler: TaskCompiler,
        pool: Pool,
        tools: ToolPool,
        ledger: Ledger,
        sink: Sink,
        *,
        max_inflight: int | None = None,
        purse: Purse | None = None,
        prefetcher: Prefetcher | None = None,
        api_key: str = "",
        on_result: OnResult | None = None,
    ) -> None:
        self._compiler = compiler
        self._pool = pool
        self._tools = tools
        self._ledger = ledger
        self._sink = sink
        limit = max_inflight or pool.concurrency
        self._slots = Slots(limit)
        self._keeps = all(tool.is_quick for tool in compiler.tools.values())
        self._width = limit if self._keeps else AGENTS_PER_SLOT * limit
        if purse is not None and purse.budget.width is not None:
            self._width = min(self._width, purse.budget.width)
        self._purse = purse
        self._prefetcher = prefetcher
        self._api_key = api_key
        self._on_result = on_result

    async def results(
        self, inputs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]], total: int | None
    ) -> AsyncGenerator[AgentResult[Any], None]:
        """Run every input; yield each result when it is final. Exactly one per input.

        Closing the iterator early, or cancelling, ends all agents and waits until they are gone.

        Args:
            inputs: Pulled as agents finish; may be endless.
            total: How many there are, for those who watch; None when nobody knows.

        Raises:
            StorageError: The journal cannot be written. Nothing more is started; what is unsaved is named.
            Exception: Whatever `inputs` raised, after the results of what was under way.
        """
        urls = tuple(endpoint.url for endpoint in self._pool.endpoints)
        self._sink.emit(RunStarted(total, urls, self._compiler.model))
        entry = Entry(self._slots, self._compiler.spec.max_turns)
        flow = as_they_finish(inputs, self._one, width=self._width, gate=entry)
        finished = False
        try:
            async for result in flow:
                yield result
            finished = True
        except StorageError as error:
            error.unsaved = self._ledger.unsaved
            raise
        finally:
            await flow.aclose()
            self._sink.emit(RunEnded(cancelled=not finished))

    async def _one(self, index: int, values: Mapping[str, Any]) -> AgentResult[Any]:
        seat = Seat(self._slots, keeps=self._keeps)
        try:
            return await self._finish(await self._result(index, values, seat))
        finally:
            seat.leave()

    async def _result(self, index: int, values: Mapping[str, Any], seat: Seat) -> AgentResult[Any]:
        self._sink.emit(AgentStarted(index))
        try:
            job = self._compiler.compile(index, values)
        except UsageError as error:
            return AgentResult(index=index, key="", ok=False, output=None, error=error)
        page = await self._ledger.open(job.task.key, index)
        if page.result is not None:
            return page.result
        result = await self._live(job, seat, page)
        seat.leave()
        return await page.finish(result)

    async def _live(self, job: Job, seat: Seat, page: Page) -> AgentResult[Any]:
        if self._compiler.spec.runtime is not None:
            return await self._led(job, self._compiler.spec.runtime)
        asked: Call | None = None

        async def ask(call: Call) -> Outcome:
            nonlocal asked
            asked = call
            await seat.take(call.turns_left)
            try:
                outcome = await self._pool.ask(call, near=seat.near)
            finally:
                seat.rest()
            seat.near = outcome.endpoint
            return outcome

        async def use(call: ToolCall, again: bool) -> ToolReport:
            using = self._tools.call(call, job.tools, again=again)
            if self._prefetcher is not None and asked is not None:
                answer = await self._prefetcher.waiting(asked, seat.near, call.name, lambda: using)
            else:
                answer = await using
            event = ToolEnded(job.task.index, call.name, answer.executed, answer.ok, answer.latency_s)
            self._sink.emit(event)
            return ToolReport(answer.text, answer.executed, answer.in_doubt)

        return await run_agent(job.task, ask, use, recorded=page.steps, keep=page.keep, purse=self._purse)

    async def _led(self, job: Job, runtime: Runtime) -> AgentResult[Any]:
        """An agent of a runtime, which talks to one server until it ends; it holds its slot for so long."""
        task = job.task
        return await runtime.run(
            "\n\n".join(message.content for message in task.messages),
            endpoint_url=self._pool.endpoint(task.index % self._pool.size).url,
            model=task.model,
            timeout_s=task.timeout_s or RUNTIME_TIMEOUT_S,
            api_key=self._api_key,
            index=task.index,
            key=task.key,
        )

    async def _finish(self, result: AgentResult[Any]) -> AgentResult[Any]:
        if self._on_result is not None:
            result = await self._tell(self._on_result, result)
        self._sink.emit(AgentEnded(result))
        return result

    async def _tell(self, on_result: OnResult, result: AgentResult[Any]) -> AgentResult[Any]:
        try:
            told = on_result(result)
            if inspect.isawaitable(told):
                await told
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything; only this job is affected
            failure = CallbackError(f"on_result raised {type(error).__name__}: {error}")
            return msgspec.structs.replace(result, ok=False, error=failure)
        return result
