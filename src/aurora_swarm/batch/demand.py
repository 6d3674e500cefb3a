"""Who may ask the model next: agents that began go before agents that have not, the nearly finished first of all.

At the end of a batch it is the other way round: whoever has the most turns to go is first, or the last agents would
take theirs one after the other while most slots are empty. Of chains of equal steps on equal machines the longest first
is the quickest order (T. C. Hu, "Parallel Sequencing and Assembly Line Problems", 1961).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from aurora_swarm.values.endpoint import AgentEndpoint

AGEING_S = 5.0
"""Seconds of waiting that outweigh one turn left, as in the pool's own queue, so that nobody starves."""


class Slots:
    """A bounded number of model calls under way, handed over by priority; belongs to one event loop.

    A slot that is given back goes straight to whoever waits with the fewest turns left, ageing included. Nothing polls.
    Cancelling a waiter loses no slot.

    Args:
        limit: Calls at a time.

    Attributes:
        limit: See there.
        ebbs: Whether the batch nears its end, so that the most turns go first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ebbs = False
        self._free = limit
        self._waiting: list[tuple[float, int, float, asyncio.Future[None]]] = []
        self._numbers = count()

    def ebb(self) -> None:
        """From now on whoever has the most turns left goes first, those who wait already too."""
        if not self.ebbs:
            self.ebbs = True
            self._waiting = [(2 * came - key, number, came, turn) for key, number, came, turn in self._waiting]
            heapq.heapify(self._waiting)

    async def take(self, turns_left: int) -> None:
        """Wait for a slot.

        Args:
            turns_left: How many turns the agent may still take after this one.
        """
        if self.take_now():
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        came, ahead_s = loop.time(), AGEING_S * turns_left
        key = came - ahead_s if self.ebbs else came + ahead_s
        heapq.heappush(self._waiting, (key, next(self._numbers), came, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def take_now(self) -> bool:
        """Take a slot if one is free; whether one was."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def give(self) -> None:
        """Give a slot back."""
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Seat:
    """One agent's hold on the slots: it has one while it asks the model, and none while it waits for tools.

    Args:
        slots: Where they are; one of them was taken for this agent already.
        keeps: Whether it keeps its slot while tools run, until the batch nears its end.

    Attributes:
        held: Whether it has a slot.
        near: The endpoint that answered last, which has the conversation in its cache.
    """

    __slots__ = ("_keeps", "_slots", "held", "near")

    def __init__(self, slots: Slots, *, keeps: bool) -> None:
        self._slots = slots
        self._keeps = keeps
        self.held = True
        self.near: AgentEndpoint | None = None

    async def take(self, turns_left: int) -> None:
        """Wait for a slot, unless it has one."""
        if not self.held:
            await self._slots.take(turns_left)
            self.held = True

    def rest(self) -> None:
        """The model has answered."""
        if not self._keeps or self._slots.ebbs:
            self.leave()

    def leave(self) -> None:
        """Give the slot back, if it has one."""
        if self.held:
            self.held = False
            self._slots.give()


class Entry:
    """How new agents come in: each needs a slot for its first call, and waits behind all that began before.

    So a new agent starts when a slot is free and no started one is ready to use it; however long tools take, the
    model is kept busy. Once no more agents are to come than there are slots, they go first instead.

    Args:
        slots: Where the slots are.
        turns: Turns that a new agent has left.
        total: How many agents there are; None when nobody knows.
        may_ebb: Whether the order may turn round: not where engines hold the conversations of few agents only. Asked
            once, when it would.
    """

    def __init__(
        self, slots: Slots, turns: int, total: int | None = None, may_ebb: Callable[[], bool] = lambda: True
    ) -> None:
        self._slots = slots
        self._turns = turns
        self._ebbs_in = None if total is None or turns < 2 else max(total - slots.limit, 0)
        self._may_ebb = may_ebb

    def enter_now(self) -> bool:
        """Take the slot of a new agent's first call if one is free."""
        is_free = self._slots.take_now()
        if is_free and self._ebbs_in is not None:
            self._count(self._ebbs_in)
        return is_free

    async def enter(self) -> None:
        """Wait for the slot of a new agent's first call."""
        if self._ebbs_in is not None:
            self._count(self._ebbs_in)
        await self._slots.take(self._turns)

    def leave(self) -> None:
        """Give it back: there is no further agent."""
        self._slots.give()

    def _count(self, ebbs_in: int) -> None:
        """One agent more comes in; whether so few are left that they go first."""
        self._ebbs_in = ebbs_in - 1 if ebbs_in else None
        if not ebbs_in and self._may_ebb():
            self._slots.ebb()
