"""Runs sequences: admits them, lets the others wait, and times their tokens."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Protocol

from aurora_swarm.testing.fleet.caches import PrefixCache, open_cache
from aurora_swarm.testing.fleet.counts import Tally
from aurora_swarm.testing.fleet.plan import ServerPlan, count_tokens
from aurora_swarm.testing.fleet.token_clock import TokenClock

_TICK_S = 5e-4
"""A timer may fire this much early, and what is due by then is done: uvloop counts in milliseconds."""


class Owner(Protocol):
    """Who is told about a sequence."""

    def token(self, sequence: Sequence) -> None:
        """It has one token more; told of streamed sequences only."""
        ...

    def finished(self, sequence: Sequence) -> None:
        """It has all its tokens."""
        ...


class Sequence:
    """One prompt and its answer, under way.

    Args:
        owner: Told what happens to it.
        index: Its place in the request.
        prompt: All of the prompt.
        tokens: Tokens to generate.
        factor: How many times longer it takes than it should.
        streamed: Whether `owner` is told of every token.
        slot: The slot that the request asks for; -1 for any.
    """

    __slots__ = (
        "began",
        "cache",
        "cached",
        "factor",
        "generated",
        "gone",
        "handle",
        "index",
        "owner",
        "prompt",
        "running",
        "slot",
        "streamed",
        "tokens",
    )

    def __init__(
        self,
        owner: Owner,
        index: int,
        prompt: str,
        tokens: int,
        *,
        factor: float = 1.0,
        streamed: bool = False,
        slot: int = -1,
    ) -> None:
        self.owner = owner
        self.index = index
        self.prompt = prompt
        self.tokens = tokens
        self.factor = factor
        self.streamed = streamed
        self.slot = slot
        self.cache: PrefixCache | None = None
        self.cached = self.generated = 0
        self.began = 0.0
        self.running = self.gone = False
        self.handle: asyncio.TimerHandle | None = None


class SimulatedEngine:
    """What a server computes with.

    Args:
        plan: How fast it is, and how many sequences it runs.
        tally: Where it counts.
        dice: Where chance comes from.
    """

    def __init__(self, plan: ServerPlan, tally: Tally, dice: random.Random) -> None:
        self.plan = plan
        self._tally = tally
        self._dice = dice
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Sequence] = deque()
        self._clock: TokenClock[Sequence] = TokenClock()
        self._cache = open_cache(plan)
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._admitting = False

    def set_plan(self, plan: ServerPlan) -> None:
        """Go on like this; what runs in a fixed time keeps its time. Another engine or capacity may empty the cache."""
        before, self.plan = self.plan, plan
        old, new = ((p.engine, p.cache_blocks, p.engine == "llamacpp" and p.capacity) for p in (before, plan))
        if old != new:
            self._cache = open_cache(plan)
        self._load_changed()
        self._admit()

    def has_room(self, sequences: int) -> bool:
        """Whether so many more may come without the queue growing beyond its bound."""
        most = self.plan.max_queue
        return most is None or self._tally.queued + self._tally.running + sequences <= most + self.plan.capacity

    def submit(self, sequence: Sequence) -> None:
        """Run it as soon as its turn comes."""
        tally = self._tally
        if tally.running < self.plan.capacity and not tally.queued:
            self._begin(sequence)
            return
        self._waiting.append(sequence)
        tally.queued += 1
        tally.most_queued = max(tally.most_queued, tally.queued)

    def cancel(self, sequence: Sequence) -> None:
        """Free what it uses, at once."""
        if sequence.gone:
            return
        sequence.gone = True
        if sequence.running:
            self._release(sequence)
            self._admit()
        else:
            self._tally.queued -= 1

    def _admit(self) -> None:
        if self._admitting:
            return
        self._admitting = True
        while self._waiting and self._tally.running < self.plan.capacity:
            sequence = self._waiting.popleft()
            if not sequence.gone:
                self._tally.queued -= 1
                self._begin(sequence)
        self._admitting = False

    def _begin(self, sequence: Sequence) -> None:
        tally, plan = self._tally, self.plan
        sequence.running, sequence.began = True, self._loop.time()
        tally.running += 1
        tally.sequences += 1
        tally.most_running = max(tally.most_running, tally.running)
        fixed_s = (plan.latency_s + self._prefill_s(sequence)) / plan.speed * sequence.factor
        if sequence.streamed or plan.varies:
            self._load_changed()
            self._after(fixed_s, sequence, self._decode)
        else:
            self._after(fixed_s + sequence.tokens * plan.token_s(1) * sequence.factor, sequence, self._finish)

    def _prefill_s(self, sequence: Sequence) -> float:
        tokens = count_tokens(sequence.prompt)
        sequence.cache = self._cache
        sequence.cached, sequence.slot = self._cache.begin(sequence.prompt, sequence.slot)
        self._tally.prompt_tokens += tokens
        self._tally.cached_tokens += sequence.cached
        self._tally.prefix_computations += not sequence.cached and tokens >= 16
        return (tokens - sequence.cached) * self.plan.prefill_per_token_s

    def _after(self, delay_s: float, sequence: Sequence, then: _Then) -> None:
        if delay_s > 0:
            sequence.handle = self._loop.call_later(delay_s, then, sequence)
        else:
            then(sequence)

    def _decode(self, sequence: Sequence) -> None:
        """The prompt is computed: tokens come from now on."""
        if sequence.gone:
            return
        if not sequence.tokens:
            self._finish(sequence)
            return
        tokens = 1 if sequence.streamed else sequence.tokens
        self._clock.add(sequence, tokens * sequence.factor, self._loop.time())
        self._set_alarm()

    def _load_changed(self) -> None:
        self._clock.set_rate(self.plan.token_s(max(self._tally.running, 1)), self._loop.time())
        self._set_alarm()

    def _set_alarm(self) -> None:
        """One timer for all tokens; an earlier one that is set already finds nothing to do and is set again."""
        due = self._clock.next_due()
        if due is None or (self._alarm is not None and self._alarm_at <= due):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = self._loop.call_at(due, self._tick), due

    def _tick(self) -> None:
        self._alarm = None
        now = self._loop.time()
        for sequence in self._clock.due(now + _TICK_S):
            if not sequence.gone:
                self._stepped(sequence, now)
        self._set_alarm()

    def _stepped(self, sequence: Sequence, now: float) -> None:
        if sequence.streamed:
            sequence.generated += 1
            sequence.owner.token(sequence)
            if sequence.generated < sequence.tokens and not sequence.gone:
                self._clock.add(sequence, sequence.factor, now)
                return
        if not sequence.gone:
            self._finish(sequence)

    def _finish(self, sequence: Sequence) -> None:
        if sequence.gone:
            return
        sequence.gone = True
        sequence.handle = None
        self._release(sequence)
        self._tally.completed += 1
        self._tally.completion_tokens += sequence.tokens
        sequence.owner.finished(sequence)
        self._admit()

    def _release(self, sequence: Sequence) -> None:
        if sequence.handle is not None:
            sequence.handle.cancel()
            sequence.handle = None
        if sequence.cache is not None:  # that of its beginning: a change of plan may have brought another
            sequence.cache.end(sequence.slot)
        self._tally.running -= 1
        self._tally.busy_s += self._loop.time() - sequence.began
        if self.plan.varies:
            self._load_changed()


class _Then(Protocol):
    def __call__(self, sequence: Sequence, /) -> None: ...
