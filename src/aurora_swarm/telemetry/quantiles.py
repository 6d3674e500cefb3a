"""Medians and other quantiles of any number of durations, in memory that does not grow with their number.

Values are counted in classes whose borders grow by a constant factor, so that whatever is read from them is off by one
per cent at most (DDSketch: Masson, Rim and Lee, VLDB 2019). To keep the values, or a sample of them, was rejected:
the one grows with a run of a million inputs, the other misses the few slowest, which a p95 is about.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec

ERROR = 0.01
"""How far a quantile may be off, as a share of itself."""

LEAST = 1e-6
"""Whatever is smaller counts as this."""

_GROWTH = math.log1p(2 * ERROR / (1 - ERROR))
_MOST_CLASS = math.ceil(math.log(1e12) / _GROWTH)


class Spread(msgspec.Struct, frozen=True):
    """How durations are spread.

    Args:
        count: How many were seen.
        median_s: Half of them took this long at most.
        p95_s: 95 of 100 did.
        most_s: The longest.
    """

    count: int
    median_s: float
    p95_s: float
    most_s: float


class Quantiles:
    """Counts durations in seconds."""

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()
        self._count = 0
        self._most = 0.0

    def add(self, seconds: float) -> None:
        """Take one into account; anything but a number of seconds is passed over."""
        if not 0 <= seconds < math.inf:
            return
        self._count += 1
        self._most = max(self._most, seconds)
        place = 0 if seconds <= LEAST else math.ceil(math.log(seconds / LEAST) / _GROWTH)
        self._classes[min(place, _MOST_CLASS)] += 1

    def quantile(self, share: float) -> float | None:
        """The value that a share of all do not exceed, off by `ERROR` at most; None where there are none.

        Args:
            share: From 0 to 1.
        """
        wanted = max(1, math.ceil(share * self._count))
        seen = 0
        for place, count in sorted(self._classes.copy().items()):  # a view draws from a thread of its own
            seen += count
            if seen >= wanted:
                # The point of its class from which both borders are equally far, in per cent.
                return min(LEAST * math.exp((place - 0.5) * _GROWTH) / math.cosh(_GROWTH / 2), self._most)
        return None

    def spread(self) -> Spread | None:
        """The usual ones; None where nothing was seen."""
        median, p95 = self.quantile(0.5), self.quantile(0.95)
        if median is None or p95 is None:
            return None
        return Spread(self._count, median, p95, self._most)
