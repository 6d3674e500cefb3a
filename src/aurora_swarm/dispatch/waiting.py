"""Where errands wait for a slot, and how long they are patient while no endpoint of theirs is open."""

from __future__ import annotations

import asyncio

from aurora_swarm.dispatch.admission import Admission, Ticket
from aurora_swarm.dispatch.health import Condition, Health
from aurora_swarm.dispatch.routing import View

CLOCK_TICK_S = 1e-3
"""A timer may fire this much early; what is due by then counts as due."""


class WaitingRoom:
    """Waits for grants, one future per waiter.

    Args:
        admission: Grants slots.
        health: Knows who will never open again.
        patience_s: Longest wait while no endpoint of a view is open.
    """

    def __init__(self, admission: Admission, health: Health, patience_s: float) -> None:
        self._admission = admission
        self._health = health
        self._patience_s = patience_s
        self._outages: dict[View, asyncio.TimerHandle] = {}
        self.closed = False

    async def wait(self, ticket: Ticket, until: float) -> int | None:
        """Wait for a ticket that was requested.

        Args:
            ticket: Whose turn it will be.
            until: When its time is used up, on the loop's clock; 0 for no limit of its own.

        Returns:
            The endpoint, whose slot is taken; None when the call's time, or the patience with an outage, is used up.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()

        def notify() -> None:
            if not turn.done():
                turn.set_result(None)

        ticket.notify = notify
        self._watch(ticket.view)
        if ticket.strict and ticket.pin is not None and self._health.condition(ticket.pin) is Condition.EXCLUDED:
            loop.call_soon(self._evict, ticket)
        timer = loop.call_at(until, self._evict, ticket) if until else None
        try:
            await turn
        except asyncio.CancelledError:
            self._admission.withdraw(ticket)
            if ticket.granted is not None:
                self._admission.release(ticket.granted, ticket.weight)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return ticket.granted

    def watch(self) -> None:
        """An endpoint opened or closed: whoever waits for a closed fleet has a limit to that."""
        for view in self._admission.views():
            self._watch(view)
        for view in [v for v in self._outages if not v.out]:
            self._outages.pop(view).cancel()

    def abandon(self, index: int) -> None:
        """A probe failed: those who wait for that endpoint alone wait no longer."""
        for ticket in self._admission.waiters_for(index):
            if ticket.strict:
                self._evict(ticket)

    def is_hopeless(self, view: View) -> bool:
        """Whether no member will ever open again."""
        return view.out and all(self._health.condition(i) is Condition.EXCLUDED for i in view.members)

    def close(self) -> None:
        """Send everybody home."""
        self.closed = True
        for timer in self._outages.values():
            timer.cancel()
        for view in self._admission.views():
            self._evict_all(view)

    def _evict(self, ticket: Ticket) -> None:
        self._admission.withdraw(ticket)
        if ticket.notify is not None:
            ticket.notify()

    def _evict_all(self, view: View) -> None:
        for ticket in self._admission.waiters(view):
            self._evict(ticket)

    def _watch(self, view: View) -> None:
        """While no endpoint of a view is open, its waiters are patient for a while, then they fail."""
        loop = asyncio.get_running_loop()
        if self.is_hopeless(view) or self.closed:
            loop.call_soon(self._evict_all, view)
        elif view.out and view not in self._outages:
            start = loop.time()
            self._outages[view] = loop.call_later(self._patience_s, self._end_patience, view, start)

    def _end_patience(self, view: View, start: float) -> None:
        loop = asyncio.get_running_loop()
        del self._outages[view]
        ends = {t: max(t.since, start) + self._patience_s for t in self._admission.waiters(view)}
        for ticket in [t for t, end in ends.items() if end <= loop.time() + CLOCK_TICK_S]:
            self._evict(ticket)
            del ends[ticket]
        if ends:
            self._outages[view] = loop.call_at(min(ends.values()), self._end_patience, view, start)
