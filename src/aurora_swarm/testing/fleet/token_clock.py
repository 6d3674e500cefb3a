"""Sequences that share an engine: each gets tokens at the same rate, which changes with their number. Pure."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")


class TokenClock(Generic[T]):
    """Counts the tokens that every running sequence has got since the start; a sequence ends at a count.

    The cost of a change of rate does not depend on how many sequences run.
    """

    def __init__(self) -> None:
        self._at = 0.0
        self._tokens = 0.0
        self._token_s = 0.0
        self._ends: list[tuple[float, int, T]] = []
        self._order = 0

    def set_rate(self, token_s: float, now: float) -> None:
        """From now on a token takes so many seconds."""
        self._advance(now)
        self._token_s = token_s

    def add(self, item: T, tokens: float, now: float) -> None:
        """A sequence that ends after so many tokens."""
        self._advance(now)
        self._order += 1
        heapq.heappush(self._ends, (self._tokens + tokens, self._order, item))

    def next_due(self) -> float | None:
        """When the next sequence ends at the present rate; None where there is none."""
        if not self._ends:
            return None
        return self._at + max(self._ends[0][0] - self._tokens, 0.0) * self._token_s

    def due(self, now: float) -> list[T]:
        """Takes out the sequences that have ended, in that order."""
        self._advance(now)
        done: list[T] = []
        while self._ends and self._ends[0][0] <= self._tokens + 1e-6:
            done.append(heapq.heappop(self._ends)[2])
        return done

    def _advance(self, now: float) -> None:
        if self._token_s > 0:
            self._tokens += max(now - self._at, 0.0) / self._token_s
        elif self._ends:
            self._tokens = max(self._tokens, max(self._ends, key=_end)[0])  # tokens take no time
        self._at = max(now, self._at)


def _end(entry: tuple[float, int, object]) -> float:
    return entry[0]
