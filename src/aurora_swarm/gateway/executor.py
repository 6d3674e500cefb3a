"""A swarm as A2A runs it: one task per order, its outcome as an artifact with text and data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from a2a.helpers import get_data_parts, new_data_part, new_task_from_user_message, new_text_part
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.tasks import TaskUpdater
from a2a.types import Message

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import TaskCancelledError, UsageError
from aurora_swarm.gateway.guard import GONE
from aurora_swarm.swarms.a2a import ORDER, REPORT
from aurora_swarm.swarms.remote import Errand, carry_out
from aurora_swarm.swarms.wire import Order, Report, order_from_data, report_to_data
from aurora_swarm.swarms.work import Member, SwarmOutcome
from aurora_swarm.values.budget import Price


class _Running:
    """An order that is being carried out."""

    def __init__(self, order: Order, work: asyncio.Task[Report], errand: Errand, *, is_ours: bool) -> None:
        self.order = order
        self.work = work
        self.errand = errand
        self.is_ours = is_ours
        self.is_told = False

    async def tell(self, updater: TaskUpdater) -> None:
        """Report that the order was ended, and what it had spent."""
        error = TaskCancelledError("the task was cancelled where it ran")
        outcome = SwarmOutcome(objective=self.order.objective or "", answer="", error=error)
        data = new_data_part(report_to_data(Report(outcome=outcome, spent=self.errand.spent)), REPORT)
        await updater.cancel(updater.new_agent_message([data]))


class SwarmExecutor(AgentExecutor):
    """Carries out orders.

    Args:
        member: Who does it.
        purse: Bounds all orders together; None for nothing.
        price: What the model costs here, for orders in money.
        width: Orders at a time; more are rejected.
        farewell_s: Seconds after which an order of a hivemind is ended that has left; it cancels before it goes, and
            comes back for none. Others may, so theirs go on.
    """

    def __init__(
        self, member: Member, *, purse: Purse | None, price: Price | None, width: int, farewell_s: float = 10.0
    ) -> None:
        self._farewell_s = farewell_s
        self._member = member
        self._purse = purse
        self._price = price
        self._width = width
        self._running: dict[str, _Running] = {}

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        """Carry out one order; what comes of it goes into the queue. Cancelling ends the order."""
        message, task_id = context.message, context.task_id
        assert message is not None
        assert task_id is not None
        await event_queue.enqueue_event(new_task_from_user_message(message))
        updater = TaskUpdater(event_queue, task_id, context.context_id or "")
        try:
            running = self._begin(message)
        except (ValueError, UsageError) as error:
            await updater.reject(updater.new_agent_message([new_text_part(f"Not taken: {error}.")]))
            return
        self._running[task_id] = running
        try:
            await updater.start_work()
            await self._end_of(running, context)
            if not running.work.cancelled():
                await _publish(updater, running.work.result())
            elif not running.is_told:
                await running.tell(updater)
        finally:
            await _ended(running.work)
            self._running.pop(task_id, None)

    async def _end_of(self, running: _Running, context: RequestContext) -> None:
        """Wait until an order has ended; it is ended where a hivemind that gave it has left without a word."""
        gone = context.call_context.state.get(GONE)
        if gone is None or not running.is_ours:
            await asyncio.wait([running.work])
            return
        leaving = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait([running.work, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not running.work.done():
                await asyncio.wait([running.work], timeout=self._farewell_s)
            running.work.cancel()
            await asyncio.wait([running.work])
        finally:
            leaving.cancel()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        """End an order, and report what it has spent."""
        running = self._running.pop(context.task_id or "", None)
        updater = TaskUpdater(event_queue, context.task_id or "", context.context_id or "")
        if running is None:
            await updater.cancel()
            return
        running.is_told = True
        await _ended(running.work)
        await running.tell(updater)

    async def aclose(self) -> None:
        """End all orders; who gave them is told, as far as there is still a connection."""
        for running in list(self._running.values()):
            await _ended(running.work)

    def _begin(self, message: Message) -> _Running:
        if len(self._running) >= self._width:
            raise UsageError(f"no more than {self._width} at a time are taken here, and so many are under way")
        data = get_data_parts([part for part in message.parts if part.media_type == ORDER])
        order, errand = _order_in(message, data), Errand()
        doing = carry_out(self._member, order, purse=self._purse, price=self._price, told=errand)
        return _Running(order, asyncio.create_task(doing), errand, is_ours=bool(data))


def _order_in(message: Message, data: Sequence[object]) -> Order:
    text = "\n".join(part.text for part in message.parts if part.HasField("text"))
    order = order_from_data(data[0]) if data else Order(objective=text or None)
    if order.objective is None and not data:
        raise UsageError("the message has no text")
    return order


async def _publish(updater: TaskUpdater, report: Report) -> None:
    outcome = report.outcome
    parts = [new_data_part(report_to_data(report), REPORT)]
    if outcome.answer:
        parts.insert(0, new_text_part(outcome.answer))
    await updater.add_artifact(parts, name="outcome", last_chunk=True)
    if outcome.error is None:
        await updater.complete()
    else:
        await updater.failed(updater.new_agent_message([new_text_part(f"{outcome.error}.")]))


async def _ended(work: asyncio.Task[Report]) -> None:
    """Cancel, and wait until it is gone."""
    work.cancel()
    await asyncio.wait([work])
