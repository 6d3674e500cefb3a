"""Which agent comes back when, so that its prefix is in an engine's cache by then. Pure: `now` is an argument.

While an agent waits for a tool, other agents push its prefix out of the cache, or out of the GPU's memory into the
host's. A request for one token, made shortly before the tool returns, brings it back while nobody waits for it. The
idea is that of KVFlow (Pan et al., 2025): prefetch by the order in which agents will be activated. Here the order comes
from how long each tool took so far.
"""

from __future__ import annotations

import heapq
from collections import deque

SAMPLES = 64
"""Latest waits for a tool that are remembered."""

LEAST_SAMPLES = 5
"""Waits that must be known before anything is predicted."""

EARLY = 0.25
"""Share of waits that are shorter than predicted: so many prefetches come too late, and the others in time."""

LEAST_WAIT_S = 1.0
"""A shorter wait is not worth a request: a cache seldom loses a prefix so fast."""

FIRST_LEAD_S = 0.25
"""What a prefetch is taken to last until one was made."""

STEADY = 0.2
"""Weight of the latest prefetch in what one is taken to last."""


class KVFlowAdvisor:
    """Says whose prefix to ask for next, and when.

    Each wait of an agent is advised on once at most, and never after its end. Costs O(log n) per tool call, in memory
    of what is under way.

    Args:
        least_wait_s: Waits that are expected to be shorter are left alone.
    """

    def __init__(self, least_wait_s: float = LEAST_WAIT_S) -> None:
        self._least_wait_s = least_wait_s
        self._lead_s = FIRST_LEAD_S
        self._tools: dict[str, _Waits] = {}
        self._agents: dict[str, _Agent] = {}
        self._due: list[tuple[float, int, str, _Agent]] = []
        self._number = 0

    def waits(self, agent: str) -> bool:
        """Whether an agent waits for a tool."""
        return agent in self._agents

    def begins(self, agent: str, tool: str, now: float) -> None:
        """An agent waits for a tool; several calls together are one wait, until the last of them.

        Args:
            agent: Who.
            tool: Name of the tool.
            now: Seconds.
        """
        waits = self._tools.setdefault(tool, _Waits())
        state = self._agents.setdefault(agent, _Agent())
        state.pending.append((tool, now))
        expected_s = waits.expected_s
        state.is_known = state.is_known and expected_s is not None
        state.back_at = max(state.back_at, now + (expected_s or 0.0))
        if state.is_known and expected_s is not None and expected_s >= self._least_wait_s:
            self._number += 1
            state.number = self._number
            at = max(state.back_at - self._lead_s, now)
            heapq.heappush(self._due, (at, self._number, agent, state))

    def ends(self, agent: str, tool: str, now: float) -> None:
        """A tool has answered.

        Args:
            agent: Who waited.
            tool: Name of the tool.
            now: Seconds.
        """
        state = self._agents.get(agent)
        if state is None:
            return
        begun = next((each for each in state.pending if each[0] == tool), None)
        if begun is None:
            return
        state.pending.remove(begun)
        self._tools[tool].add(now - begun[1])
        if not state.pending:
            self.forget(agent)

    def forget(self, agent: str) -> None:
        """An agent waits for nothing any more, or is gone."""
        state = self._agents.pop(agent, None)
        if state is not None:
            state.number = 0

    def took(self, seconds: float) -> None:
        """How long a prefetch lasted: the next ones are made so much earlier."""
        self._lead_s += STEADY * (seconds - self._lead_s)

    def next_due(self) -> float | None:
        """When somebody's prefix is to be asked for next; None while nobody's is."""
        while self._due and self._due[0][3].number != self._due[0][1]:
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def due(self, now: float) -> list[str]:
        """The agents whose prefixes are to be asked for now, the one that comes back first in front.

        Args:
            now: Seconds.
        """
        found: list[str] = []
        while (at := self.next_due()) is not None and at <= now:
            _, _, agent, state = heapq.heappop(self._due)
            state.number = 0
            state.is_known = False  # once per wait
            found.append(agent)
        return found


class _Agent:
    """One wait: its calls, when it should be over, and its place among those that are due."""

    __slots__ = ("back_at", "is_known", "number", "pending")

    def __init__(self) -> None:
        self.pending: list[tuple[str, float]] = []
        self.back_at = 0.0
        self.is_known = True
        self.number = 0


class _Waits:
    """The latest waits for one tool."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=SAMPLES)
        self._expected_s: float | None = None
        self._until_sorted = LEAST_SAMPLES

    @property
    def expected_s(self) -> float | None:
        """What `EARLY` of the waits fall short of; None while too little is known."""
        return self._expected_s

    def add(self, seconds: float) -> None:
        """One more; sorts them now and then only."""
        self._latest.append(seconds)
        self._until_sorted -= 1
        if self._until_sorted <= 0:
            self._until_sorted = LEAST_SAMPLES
            self._expected_s = sorted(self._latest)[int(EARLY * len(self._latest))]
