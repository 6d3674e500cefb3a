"""The hold on work under way: it can be stopped before its next call to the model, and told something then.

What is said becomes a user message of the conversation, at the place where it was said, and stays there in all later
calls, so that the prefix that an engine has cached stays a prefix.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import TaskCancelledError
from aurora_swarm.pools.pool import Pool
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.tools.definition import AnyTool
from aurora_swarm.tools.pool import ToolAnswer, ToolPool, ToolStatistics
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import Outcome


class Gate:
    """What work passes before each call to the model; open at first."""

    def __init__(self) -> None:
        self._opened: asyncio.Event | None = None

    @property
    def is_shut(self) -> bool:
        """Whether nobody passes."""
        return self._opened is not None

    def shut(self) -> None:
        """Let nobody pass."""
        self._opened = self._opened or asyncio.Event()

    def open(self) -> None:
        """Let those pass who wait, and all who come."""
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    async def passed(self) -> None:
        """Wait until it is open."""
        while self._opened is not None:
            await self._opened.wait()


async def all_passed(gates: Sequence[Gate]) -> None:
    """Wait until all of them are open at once."""
    while shut := next((gate for gate in gates if gate.is_shut), None):
        await shut.passed()


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


class TaskRein:
    """The rein of one worker on one task; awaited before each of its calls to the model.

    Args:
        gates: All must be open.
        said: What was and will be said, by where it comes from; only ever added to.
        alive: Called when a call may begin.
        purse: Pays for what is said, at its worst, because the call was reserved without it.

    Attributes:
        is_ended: Set when the worker has lost the task: no further call begins.
    """

    def __init__(
        self, gates: Sequence[Gate], said: Sequence[Sequence[str]], alive: Callable[[], None], purse: Purse | None
    ) -> None:
        self._gates = gates
        self._said = said
        self._alive = alive
        self._purse = purse
        self._placed: dict[tuple[Message, ...], list[tuple[int, int, str]]] = {}
        self.is_ended = False

    async def __call__(self, call: Call) -> Call:
        """The call as it may be made.

        Raises:
            TaskCancelledError: The task is somebody else's by now.
            BudgetError: The purse cannot pay for what was said.
        """
        await all_passed(self._gates)
        if self.is_ended:
            raise TaskCancelledError("the task was taken from this worker")
        self._alive()
        return self._told(call) if any(self._said) else call

    def _told(self, call: Call) -> Call:
        """The call with what was said, each text where the conversation stood when it was read first."""
        messages = call.messages
        # One task may be worked on in several conversations; they begin differently.
        placed = self._placed.setdefault(messages[:2], [])
        for source, texts in enumerate(self._said):
            known = sum(place[1] == source for place in placed)
            placed += [(len(messages), source, text) for text in texts[known:]]
        extra = [Message("user", text) for _, _, text in placed]
        self._pay(extra)
        woven: list[Message] = []
        begun = 0
        for (place, _, _), message in zip(placed, extra, strict=True):
            end = _border(messages, place)
            woven += messages[begun:end]
            woven.append(message)
            begun = max(begun, end)
        return msgspec.structs.replace(call, messages=(*woven, *messages[begun:]))

    def _pay(self, extra: Sequence[Message]) -> None:
        if self._purse is not None:
            call = Call(tuple(extra), sampling=Sampling(max_tokens=0))
            _, hold = self._purse.reserve(call, asyncio.get_running_loop().time())
            self._purse.settle(hold, None)


def _border(messages: Sequence[Message], place: int) -> int:
    """The first place from there on that does not part a call of a tool from its answer."""
    place = min(place, len(messages))
    while place < len(messages) and messages[place].role == "tool":
        place += 1
    return place
