"""Runs the agents of a batch: as many as there are slots to keep busy, each to its end, each result durable first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.driver import ToolReport, run_agent
from aurora_swarm.agents.short import ended_at_once, first_call
from aurora_swarm.batch.callbacks import OnResult, told
from aurora_swarm.batch.compiler import Job, TaskCompiler
from aurora_swarm.batch.demand import Entry, Seat, Slots
from aurora_swarm.batch.ledger import Ledger, Page
from aurora_swarm.batch.spec import Runtime
from aurora_swarm.batch.warming import Prefetcher
from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.pools.flow import all_finished, as_they_finish
from aurora_swarm.pools.pool import Pool
from aurora_swarm.ports.sink import Sink
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.call import Call
from aurora_swarm.values.event import AgentEnded, AgentStarted, Event, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.outcome import AgentResult, Outcome

AGENTS_PER_SLOT = 32
"""Agents under way per inference slot at most: those that wait for tools hold no slot, but they hold memory."""

RUNTIME_TIMEOUT_S = 1800.0
"""What an agent of a runtime may take where nobody says."""


class WaveScheduler:
    """Schedules agents over a pool. There are no waves that wait: a slot that comes free is used at once.

    Nearly finished agents go first; a new one starts when a slot is free and no started one is ready for it. Where all
    tools are quick an agent keeps its slot while they run: its next turn then finds its own prefix in the engine's
    slot, which a new agent would have overwritten in the meantime. At the end of a batch of known length the last
    agents are started first (see `demand`), unless engines name their slots: those hold no more conversations.

    Args:
        compiler: Makes jobs of inputs.
        pool: Where the model is.
        tools: Where the tools are.
        ledger: Keeps finished work, and the turns of what is not finished.
        sink: Is told what happens; None where nobody listens.
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
        sink: Sink | None,
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
        self._emit: Callable[[Event], None] | None = sink.emit if sink is not None else None
        limit = max_inflight or pool.concurrency
        self._slots = Slots(limit)
        self._keeps = all(tool.is_quick for tool in compiler.tools.values())
        self._width = limit if self._keeps else AGENTS_PER_SLOT * limit
        if self._keeps and compiler.tools:
            self._width = 2 * limit  # for those that go first at the end, while others rest between their turns
        if purse is not None and purse.budget.width is not None:
            self._width = min(self._width, purse.budget.width)
        self._purse = purse
        self._prefetcher = prefetcher
        self._api_key = api_key
        self._is_plain = compiler.makes_short_agents and purse is None and compiler.spec.runtime is None
        self._on_result = on_result
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def width(self) -> int:
        """Agents under way at a time at most."""
        return self._width

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
        flow = as_they_finish(inputs, self._one, width=self._width, gate=self._entry(total))
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
            self._tell(RunEnded(cancelled=not finished))

    async def all_results(
        self, inputs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]], total: int | None
    ) -> list[AgentResult[Any]]:
        """As `results`, all at the end, in the order of the inputs."""
        finished = False
        try:
            results = await all_finished(inputs, self._one, width=self._width, gate=self._entry(total))
            finished = True
        except StorageError as error:
            error.unsaved = self._ledger.unsaved
            raise
        finally:
            self._tell(RunEnded(cancelled=not finished))
        return sorted(results, key=attrgetter("index"))

    def _entry(self, total: int | None) -> Entry:
        urls = tuple(endpoint.url for endpoint in self._pool.endpoints)
        self._tell(RunStarted(total, urls, self._compiler.model))
        return Entry(self._slots, self._compiler.spec.max_turns, total, lambda: not self._pool.has_slots)

    async def _one(self, index: int, values: Mapping[str, Any]) -> AgentResult[Any]:
        seat = Seat(self._slots, keeps=self._keeps)
        try:
            if self._emit is not None:
                self._emit(AgentStarted(index))
            result = self._compiled(index, values)
            if isinstance(result, Job):
                result = await (self._kept(result, seat) if self._ledger.keeps else self._lived(result, seat))
            seat.leave()
            return result if self._emit is None and self._on_result is None else await self._finish(result)
        finally:
            seat.leave()

    def _compiled(self, index: int, values: Mapping[str, Any]) -> Job | AgentResult[Any]:
        """The job of one input, or how it failed before it was one."""
        try:
            return self._compiler.compile(index, values)
        except UsageError as error:
            return AgentResult(index=index, key="", ok=False, output=None, error=error)

    async def _kept(self, job: Job, seat: Seat) -> AgentResult[Any]:
        """The result of an earlier run, or one that is durable now."""
        page = await self._ledger.open(job.task.key, job.task.index)
        if page.result is not None:
            return page.result
        result = await (self._live(job, seat, page) if page.steps else self._lived(job, seat, page))
        seat.leave()
        return await page.finish(result)

    async def _lived(self, job: Job, seat: Seat, page: Page | None = None) -> AgentResult[Any]:
        """One agent from its beginning. Where it may end at once, as few frames as can be wait for its answer."""
        if not self._is_plain:
            return await self._live(job, seat, page)
        now = self._the_loop().time
        began_s = now()
        outcome = await self._pool.ask(first_call(job.task))
        result = ended_at_once(job.task, outcome, now() - began_s)
        if result is not None:
            return result
        seat.rest()
        seat.near = outcome.endpoint
        return await self._live(job, seat, page, outcome, began_s)

    def _the_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:  # asking for it is a system call, so not for every agent
            self._loop = asyncio.get_running_loop()
        return self._loop

    async def _live(
        self, job: Job, seat: Seat, page: Page | None, first: Outcome | None = None, began_s: float | None = None
    ) -> AgentResult[Any]:
        if self._compiler.spec.runtime is not None:
            return await self._led(job, self._compiler.spec.runtime)
        asked: Call | None = None

        async def ask(call: Call) -> Outcome:
            nonlocal asked
            asked = call
            if not seat.held:
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
            if self._emit is not None:
                self._emit(ToolEnded(job.task.index, call.name, answer.executed, answer.ok, answer.latency_s))
            return ToolReport(answer.text, answer.executed, answer.in_doubt)

        steps, keep = (page.steps, page.keep) if page is not None else ((), None)
        return await run_agent(
            job.task,
            ask,
            use,
            recorded=steps,
            keep=keep,
            purse=self._purse,
            first=first,
            began_s=began_s,
            loop=self._the_loop(),
        )

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
            result = await told(self._on_result, result)
        self._tell(AgentEnded(result))
        return result

    def _tell(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)
