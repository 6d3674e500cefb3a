"""Who may ask the model next: agents that began go before agents that have not, the nearly finished first of all."""

from __future__ import annotations

import asyncio
import heapq
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
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    async def take(self, turns_left: int) -> None:
        """Wait for a slot.

        Args:
            turns_left: How many turns the agent may still take after this one.
        """
        if self.take_now():
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (loop.time() + AGEING_S * turns_left, next(self._numbers), turn))
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
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Seat:
    """One agent's hold on the slots: it has one while it asks the model, and none while it waits for tools.

    Args:
        slots: Where they are; one of them was taken for this agent already.
        keeps: Whether it keeps its slot while tools run.

    Attributes:
        near: The endpoint that answered last, which has the conversation in its cache.
    """

    __slots__ = ("_held", "_keeps", "_slots", "near")

    def __init__(self, slots: Slots, *, keeps: bool) -> None:
        self._slots = slots
        self._keeps = keeps
        self._held = True
        self.near: AgentEndpoint | None = None

    async def take(self, turns_left: int) -> None:
        """Wait for a slot, unless it has one."""
        if not self._held:
            await self._slots.take(turns_left)
            self._held = True

    def rest(self) -> None:
        """The model has answered."""
        if not self._keeps:
            self.leave()

    def leave(self) -> None:
        """Give the slot back, if it has one."""
        if self._held:
            self._held = False
            self._slots.give()


class Entry:
    """How new agents come in: each needs a slot for its first call, and waits behind all that began before.

    So a new agent starts when a slot is free and no started one is ready to use it; however long tools take, the
    model is kept busy.

    Args:
        slots: Where the slots are.
        turns: Turns that a new agent has left.
    """

    def __init__(self, slots: Slots, turns: int) -> None:
        self._slots = slots
        self._turns = turns

    def enter_now(self) -> bool:
        """Take the slot of a new agent's first call if one is free."""
        return self._slots.take_now()

    async def enter(self) -> None:
        """Wait for the slot of a new agent's first call."""
        await self._slots.take(self._turns)

    def leave(self) -> None:
        """Give it back: there is no further agent."""
        self._slots.give()
