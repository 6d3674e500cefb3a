"""Signs of life from workers: their calls to the model and to tools are seen, and none begins that may not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from aurora_swarm.pools.pool import Pool
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.reins import Gate, all_passed
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.tools.pool import ToolAnswer, ToolPool, ToolStatistics
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.outcome import Outcome


class Watched:
    """What is under way for one task at the moment, and signs of life from it.

    Args:
        gate: No call to the model begins while it is shut, also of a worker that knows no reins.
        now: The clock.
        alive: Called at each sign of life.
        answered: Called with the seconds that a call to the model took.

    Attributes:
        gate: As given.
    """

    def __init__(
        self, gate: Gate, now: Callable[[], float], alive: Callable[[], None], answered: Callable[[float], None]
    ) -> None:
        self.gate = gate
        self._now = now
        self._alive = alive
        self._answered = answered
        self._calls: dict[int, float] = {}
        self._n_tools = 0
        self._count = 0

    @property
    def is_busy(self) -> bool:
        """Whether a call to the model or to a tool is under way."""
        return bool(self._calls) or self._n_tools > 0

    def longest_s(self) -> float:
        """For how long the oldest call to the model is under way; 0 when there is none."""
        return self._now() - min(self._calls.values()) if self._calls else 0.0

    async def call(self, asked: Coroutine[Any, Any, Outcome]) -> Outcome:
        """A call to the model, watched."""
        self._alive()
        self._count += 1
        number = self._count
        began = self._calls[number] = self._now()
        try:
            outcome = await asked
            self._answered(self._now() - began)
            return outcome
        finally:
            del self._calls[number]
            self._alive()

    async def tool(self, used: Coroutine[Any, Any, ToolAnswer]) -> ToolAnswer:
        """A call of a tool, watched; tools have times of their own."""
        self._alive()
        self._n_tools += 1
        try:
            return await used
        finally:
            self._n_tools -= 1
            self._alive()


WATCHED: ContextVar[Watched | None] = ContextVar("aurora_swarm_watched", default=None)
"""Whose work the running task is."""


class _WatchedPool(Pool):
    """The same fleet; calls for a task are signs of life of its worker, and no call begins while the gate is shut."""

    def __init__(self, pool: Pool, gate: Gate) -> None:
        super().__init__(pool.runtime, pool.view.members)
        self._gate = gate

    def ask(self, call: Call, *, near: AgentEndpoint | None = None) -> Coroutine[Any, Any, Outcome]:
        watched = WATCHED.get()
        gates = (self._gate,) if watched is None else (self._gate, watched.gate)
        is_shut = any(gate.is_shut for gate in gates)
        asked = self._ask_later(call, near, gates) if is_shut else super().ask(call, near=near)
        return asked if watched is None else watched.call(asked)

    async def _ask_later(self, call: Call, near: AgentEndpoint | None, gates: Sequence[Gate]) -> Outcome:
        await all_passed(gates)
        return await super().ask(call, near=near)


class _WatchedTools(ToolPool):
    """The same tools; calls for a task are signs of life of its worker."""

    def __init__(self, tools: ToolPool) -> None:
        # Not a pool of its own: everything goes to the one that all share.
        self._shared = tools

    async def call(self, call: ToolCall, granted: Mapping[str, AnyTool], again: bool = False) -> ToolAnswer:
        watched = WATCHED.get()
        used = self._shared.call(call, granted, again=again)
        return await (used if watched is None else watched.tool(used))

    def statistics(self) -> dict[str, ToolStatistics]:
        return self._shared.statistics()

    async def aclose(self) -> None:
        await self._shared.aclose()


def watched_mind(mind: Mind, gate: Gate) -> Mind:
    """The same mind, on the same fleet and tools, where calls of a task tell that its worker lives.

    Args:
        mind: The mind.
        gate: No call begins while it is shut, whoever asks.
    """
    mind = copy.copy(mind)
    mind.pool = _WatchedPool(mind.pool, gate)
    mind.tools = _WatchedTools(mind.tools)
    return mind
