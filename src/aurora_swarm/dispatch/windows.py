"""How many calls an endpoint should have at a time, found from what it gets done. Pure: told what finished and when.

Engines queue silently: latency alone cannot tell a longer batch from a longer queue, and nobody sends 429. What can be
measured is goodput. Each endpoint has a window, one rung of a ladder; while the window is full, the goodput at this
rung is measured over an epoch of finished calls, and remembered. Then

* the window grows, where it is the best known one and a longer one may bring more: growth brought goodput so far, or
  nothing is known and no queue shows in the latency;
* it shrinks, where a shorter one may do as well: at first to what Little's law makes of goodput and the latency of the
  first answers, then by halving what lies between good and bad;
* else it is the shortest one that brings what the best one brings, and one rung more as slack, if that is no worse.

A goodput far from what is remembered means that the server has changed: all memory is scaled by the ratio, since the
shape of the curve is the best guess. An endpoint that comes back from a rest starts at one call and doubles with every
round. Engines that tell their load, or their slots, are believed.
"""

from __future__ import annotations

from bisect import bisect_left

LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
START = 64
"""First window where nobody says: what one GPU server batches well; too much for a small one costs no goodput."""
MOST_AT_START = 256
"""Longest first window, whatever the pool's concurrency."""
EPOCH_MIN, EPOCH_MAX = 64, 192
"""Finished calls that make a measurement: as many as the window holds, within these bounds."""
FULL_SHARE = 0.8
"""Share of an epoch's calls that must have found the window full; a half-empty window says nothing."""
NEARLY = 0.9
"""Share of the window that counts as full."""
GOOD = 0.93
"""Goodput that counts as the best one's."""
GROWTH = 1.08
"""Goodput that a step up must have brought for another one to be tried."""
STEEP = 1.25
"""Goodput that a step up must have brought for a longer step to be tried."""
SHIFT = 1.35
"""Ratio to what is remembered, either way, by which a server has changed."""
QUEUE = 2.5
"""Latency, in units of the first answers', that speaks of a queue."""
SLACK = 1.25
"""Window, in units of the sequences that a server really runs."""
RETRY_EPOCHS, RETRY_MOST = 12, 96
"""Epochs after which shorter windows are measured again, or the next longer one; twice as many after each time, up to
the second, and few again when the server has changed."""
BAD, BAD_CALLS = 0.6, 24
"""Goodput, in units of what the window before brought, below which a longer one is given up at once; and how many calls
that one would have answered meanwhile."""


class Windows:
    """The windows of a fleet. Costs O(1) per finished call, and nothing for an endpoint that nobody used.

    Args:
        start: First window of every endpoint.
        ceiling: Longest window.

    Attributes:
        awake: Endpoints whose every answer is of interest; of others only those that find the window full.
    """

    def __init__(self, start: int, ceiling: int = LADDER[-1]) -> None:
        self.start = min(start, ceiling)
        self._ceiling = ceiling
        self._known: dict[int, _Window] = {}
        self.awake: set[int] = set()

    def limit(self, index: int) -> int:
        """Calls that the endpoint should have at a time."""
        window = self._known.get(index)
        return self.start if window is None else min(window.limit, self._ceiling)

    def finished(self, index: int, work: float, latency_s: float, load: int, now: float) -> bool:
        """A call was answered.

        Args:
            index: By whom.
            work: What it was worth, in any unit that adds up, such as tokens.
            latency_s: Seconds from sending to the answer.
            load: Calls that the endpoint had, this one included.
            now: Seconds on the caller's clock.

        Returns:
            Whether the window has changed.
        """
        window = self._known.get(index)
        if window is None:
            window = self._known[index] = _Window(self.start, now - latency_s)
        elif index not in self.awake:
            window.wake(now)
        self.awake.add(index)
        changed = window.finished(work, latency_s, load, now)
        if window.is_idle:
            self.awake.discard(index)
        return changed

    def restart(self, index: int, now: float) -> None:
        """The endpoint is back from a rest: one call at a time, then twice as many with every round."""
        self._known.setdefault(index, _Window(self.start, now)).restart()
        self.awake.add(index)

    def fix(self, index: int, slots: int) -> None:
        """The endpoint told how many sequences it runs at a time; it is believed for good."""
        window = self._known.setdefault(index, _Window(self.start, 0.0))
        window.fixed = slots
        window.limit = slots

    def observe(self, index: int, running: int, waiting: int, load: int, now: float) -> bool:
        """The endpoint told its load: with a queue of its own, it needs little more than what it runs.

        A queue that is not ours is none of our business, so that many clients do not starve each other.

        Args:
            index: Who.
            running: Sequences in its batch.
            waiting: Sequences in its queue.
            load: Calls of ours that it has.
            now: Seconds on the caller's clock.

        Returns:
            Whether the window has changed.
        """
        window = self._known.get(index)
        ours = running + waiting <= SLACK * load + 2
        if window is None or window.fixed or not ours or running < 1 or waiting * 4 < load:
            return False
        return window.move_to(_rung(SLACK * running), load, now)


class _Window:
    """One endpoint's window, and what is known of its goodput by rung."""

    __slots__ = (
        "_began", "_calls", "_done", "_epoch", "_epochs", "_first", "_full", "_goal", "_hope", "_interval", "_latency",
        "_moved", "_retry", "_seen", "_shifting", "_skip", "_tried", "_work",
        "fixed", "is_idle", "limit",
    )  # fmt: skip

    def __init__(self, start: int, now: float) -> None:
        self.limit = LADDER[_rung(start)] if start > 1 else 1
        self.fixed = 0
        self.is_idle = False
        self._goal = 0
        self._seen: dict[int, float] = {}
        self._first: list[float] = []
        self._skip = self.limit
        self._epochs = 0
        self._retry = self._interval = RETRY_EPOCHS
        self._hope = self._done = self._moved = 0.0
        self._tried = 0
        self._shifting = False
        self._reset(now)

    def finished(self, work: float, latency_s: float, load: int, now: float) -> bool:
        self.is_idle = bool(self.fixed)
        if self.fixed:
            return False
        if self._goal:
            return self._grow(now)
        if len(self._first) < EPOCH_MIN:
            self._first.append(latency_s)
        if self._hope:
            self._done += work
            self._tried += 1
            if self._disappoints(now):
                return self._give_up(load, now)
        if self._skip:
            self._skip -= 1
            if not self._skip:
                self._reset(now)
            return False
        self._calls += 1
        self._work += work
        self._latency += latency_s
        self._full += load >= NEARLY * self.limit
        return self._calls >= self._epoch and now > self._began and self._end_epoch(load, now)

    def wake(self, now: float) -> None:
        self._hope = 0.0
        self._reset(now)

    def restart(self) -> None:
        if not self.fixed:
            self._goal = max(self._goal, self.limit)
            self.limit = 1

    def move_to(self, rung: int, load: int, now: float) -> bool:
        """Change the window; calls that finish before the change shows do not count."""
        was, self.limit = self.limit, LADDER[rung]
        self._skip = load if self.limit > was else max(load - self.limit, 1)
        self._reset(now)
        self._hope = self._seen.get(_rung(was), 0.0) if self.limit > was else 0.0
        self._done, self._tried, self._moved = 0.0, 0, now
        return self.limit != was

    def _disappoints(self, now: float) -> bool:
        """Whether a longer window brings far less than the one before did."""
        hoped = self._hope * (now - self._moved)
        return self._done < BAD * hoped and hoped * self._tried >= BAD_CALLS * self._done

    def _give_up(self, load: int, now: float) -> bool:
        rung, seconds = _rung(self.limit), now - self._moved
        self._interval = min(2 * self._interval, RETRY_MOST)
        self._seen[rung] = self._done / seconds
        return self.move_to(self._next(rung, self._unqueued_s(), self._tried / seconds), load, now)

    def _grow(self, now: float) -> bool:
        self.limit += 1
        if self.limit >= self._goal:
            self.limit, self._goal = self._goal, 0
            self._reset(now)
        return True

    def _reset(self, now: float) -> None:
        self._began = now
        self._epoch = max(EPOCH_MIN, min(self.limit, EPOCH_MAX))
        self._calls = self._full = 0
        self._work = self._latency = 0.0

    def _end_epoch(self, load: int, now: float) -> bool:
        calls, seconds, latency_s = self._calls, now - self._began, self._latency / self._calls
        rate, measured, self._hope = self._work / seconds, self._full >= FULL_SHARE * calls, 0.0
        self._reset(now)
        self.is_idle = not measured
        if not measured:
            return False
        rung = _rung(self.limit)
        if not self._remember(rung, rate):
            return False
        if self._epochs >= self._retry:
            self._forget(rung, latency_s)
        chosen = self._next(rung, latency_s, calls / seconds)
        return chosen != rung and self.move_to(chosen, load, now)

    def _remember(self, rung: int, rate: float) -> bool:
        """Note a goodput; False where it speaks of a server that is just changing, and the next one will tell."""
        self._epochs += 1
        before = self._seen.get(rung)
        if before is None:
            self._seen[rung] = rate
        elif before / SHIFT < rate < before * SHIFT and not self._shifting:
            self._seen[rung] = 0.7 * before + 0.3 * rate
        elif not self._shifting:
            self._shifting = True
            return False
        else:
            self._seen = {r: known * rate / before for r, known in self._seen.items()}
            self._first = [latency_s * before / rate for latency_s in self._first]
        self._shifting = False
        return True

    def _forget(self, rung: int, latency_s: float) -> None:
        """Measure anew: the next one below while there is a queue, the next one above while there is none."""
        self._retry = self._epochs + self._interval
        if latency_s <= QUEUE * self._unqueued_s():
            self._seen.pop(rung + 1, None)
        else:
            self._seen.pop(max((r for r in self._seen if r < rung), default=rung + 1), None)

    def _next(self, rung: int, latency_s: float, calls_per_s: float) -> int:
        """The rung to measure or to stay at."""
        seen = self._seen
        best = max(seen.values())
        good = sorted(r for r, rate in seen.items() if rate >= GOOD * best)
        low, top = good[0], good[-1]
        climb = self._climb(top, latency_s) if rung == top else 0
        if climb:
            return top + climb
        floor = max((r for r in seen if r < low), default=-1)
        if low - floor > 1:
            guess = (
                _rung(SLACK * calls_per_s * best / seen[rung] * self._unqueued_s()) if floor < 0 else (low + floor) // 2
            )
            return min(max(guess, floor + 1), low - 1)
        return low + 1 if low + 1 in good else low

    def _climb(self, top: int, latency_s: float) -> int:
        """How many rungs above the best known one to measure; 0 where a longer window promises nothing."""
        ceiling = min((r for r in self._seen if r > top), default=len(LADDER))
        below = max((r for r in self._seen if r < top), default=None)
        queue = latency_s > QUEUE * self._unqueued_s()
        if below is None:
            wanted = 0 if queue else 1
        elif queue:
            wanted = int(self._seen[top] >= STEEP * self._seen[below])
        else:
            growth = self._seen[top] / self._seen[below]
            wanted = (growth >= GROWTH) + (growth >= STEEP)
        return max(0, min(wanted, ceiling - top - 1))

    def _unqueued_s(self) -> float:
        """Latency of the first answers, which found an empty server: their lower quartile."""
        return sorted(self._first)[len(self._first) // 4]


def _rung(limit: float) -> int:
    """The lowest rung that holds `limit`."""
    return min(bisect_left(LADDER, limit), len(LADDER) - 1)
