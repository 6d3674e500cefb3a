"""Counts what a summary or a live view needs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import msgspec

from aurora_swarm.errors import CallCancelledError
from aurora_swarm.telemetry.quantiles import Quantiles, Spread
from aurora_swarm.values.event import AgentEnded, AgentStarted, Event, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage


class TallySnapshot(msgspec.Struct, frozen=True):
    """The counts of one moment. Whatever came from a journal counts as ok and resumed, and as nothing spent.

    Args:
        total: Inputs; None where nobody knows.
        started: Agents that took up their input.
        ok: Agents with a valid answer, resumed ones included.
        failed: Failed agents by kind of error.
        resumed: Agents answered from a journal.
        cancelled: Agents that were stopped before they ended.
        usage: Tokens spent.
        attempts: Requests sent for agents that have ended.
        turns: Model turns that they took; what was sent beyond these were retries and re-asks.
        tools_asked: Tool calls answered.
        tools_executed: Of these, how many were executed, not shared and not cached.
        repaired: Answers whose JSON had to be repaired.
        in_doubt: Calls of tools with effects of which nobody knows whether they happened; resumed ones included.
        ttft: Seconds to the first token of agents whose answers were streamed; None where none was.
        latency: Seconds that agents took from start to end; None before the first.
        model: The model asked for; empty before the run started.
        first_at: When the run started, on the tally's clock; None before that.
        last_at: When the latest event came; None before the first.
        elapsed_s: Seconds from the start of the run to its end, or to now while it goes on.
        running: Whether the run has started and not ended.
    """

    total: int | None
    started: int
    ok: int
    failed: dict[str, int]
    resumed: int
    cancelled: int
    usage: Usage
    attempts: int
    turns: int
    tools_asked: int
    tools_executed: int
    repaired: int
    in_doubt: int
    ttft: Spread | None
    latency: Spread | None
    model: str
    first_at: float | None
    last_at: float | None
    elapsed_s: float
    running: bool

    @property
    def ended(self) -> int:
        """Agents with a result, or stopped."""
        return self.ok + sum(self.failed.values()) + self.cancelled

    @property
    def agents_per_s(self) -> float:
        """Agents that ended by work of this run, per second."""
        return _rate(self.ended - self.resumed - self.cancelled, self.elapsed_s)

    @property
    def tokens_per_s(self) -> float:
        """Tokens generated per second."""
        return _rate(self.usage.completion_tokens, self.elapsed_s)

    @property
    def cache_hit_ratio(self) -> float | None:
        """Share of the prompt tokens that engines took from their prefix cache; None without prompt tokens."""
        return self.usage.cached_tokens / self.usage.prompt_tokens if self.usage.prompt_tokens else None

    @property
    def eta_s(self) -> float | None:
        """Seconds until all agents have ended, at the rate so far; None where it cannot be told."""
        if self.total is None or not self.running:
            return None
        remaining = max(0, self.total - self.ended)
        if remaining == 0:
            return 0.0
        return remaining / self.agents_per_s if self.agents_per_s else None


class Tally:
    """A sink that counts, in memory that does not grow with the number of agents.

    Args:
        now: Seconds on a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._total: int | None = None
        self._first_at: float | None = None
        self._last_at: float | None = None
        self._running = False
        self._counts: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._usage = Usage()
        self._ttft = Quantiles()
        self._latency = Quantiles()
        self._model = ""
        self._spending_only = False

    def emit(self, event: Event) -> None:
        """Count one event."""
        self._last_at = self._now()
        if self._spending_only:
            self._count_spending(event)
            return
        match event:
            case AgentStarted():
                self._counts["started"] += 1
            case ToolEnded(executed=executed):
                self._counts["tools_asked"] += 1
                self._counts["tools_executed"] += executed
            case AgentEnded(result=result):
                self._count(result)
            case RunStarted(total=total, model=model):
                self._total, self._first_at, self._running = total, self._last_at, True
                self._model = model
            case RunEnded(cancelled=cancelled):
                self._running = False
                if cancelled:
                    self._counts["cancelled"] += self._counts["started"] - self._counts["ended"]

    def count_spending_only(self) -> None:
        """From now on agents are none of the inputs: what they spend counts, and they themselves do not.

        So a run that plans or reduces has its inputs counted once, and everything that it spends.
        """
        self._spending_only = True

    def snapshot(self) -> TallySnapshot:
        """The counts as they are now."""
        counts = self._counts
        first, last = self._first_at, self._last_at
        until = self._now() if self._running else last
        return TallySnapshot(
            total=self._total,
            started=counts["started"],
            ok=counts["ok"],
            failed=dict(self._failed),
            resumed=counts["resumed"],
            cancelled=counts["cancelled"],
            usage=self._usage,
            attempts=counts["attempts"],
            turns=counts["turns"],
            tools_asked=counts["tools_asked"],
            tools_executed=counts["tools_executed"],
            repaired=counts["repaired"],
            in_doubt=counts["in_doubt"],
            ttft=self._ttft.spread(),
            latency=self._latency.spread(),
            model=self._model,
            first_at=first,
            last_at=last,
            elapsed_s=0.0 if first is None or until is None else until - first,
            running=self._running,
        )

    def _count(self, result: AgentResult[object]) -> None:
        counts = self._counts
        counts["ended"] += 1
        if result.ok:
            counts["ok"] += 1
        elif isinstance(result.error, CallCancelledError):
            counts["cancelled"] += 1
        else:
            self._failed[result.error.kind if result.error else "unknown"] += 1
        counts["in_doubt"] += result.in_doubt
        if result.resumed:
            counts["resumed"] += 1
            return
        self._spend(result)
        self._latency.add(result.latency_s)
        if result.ttft_s is not None:
            self._ttft.add(result.ttft_s)

    def _count_spending(self, event: Event) -> None:
        match event:
            case AgentEnded(result=result) if not result.resumed:
                self._spend(result)
            case RunStarted():
                self._running = True
            case RunEnded():
                self._running = False

    def _spend(self, result: AgentResult[object]) -> None:
        counts = self._counts
        counts["attempts"] += result.attempts
        counts["turns"] += result.turns
        counts["repaired"] += result.repaired
        self._usage += result.usage


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
