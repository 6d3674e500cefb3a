"""Which attempts get a rival on another endpoint. Pure: told what started and ended, and when.

A rival never replaces an attempt: both run, the first answer counts, the other is cancelled. So a request that is
long for a good reason is only doubled, never lost. Three reasons, each with its own bound:

* **overdue**: older than almost every answer so far took by a half, or by a tenth where more speaks against it: its
  endpoint has several and answered none since, or it is of the last of a wave; paid from a budget of 2 % of all calls;
* **silent**: far older still, while its endpoint answered nobody and the others did; the endpoint is rested;
* **movable**: nobody waits and an endpoint is idle that would be done well before this one is expected to be.

An attempt has one rival at most.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from aurora_swarm.values.policy import HedgePolicy

WINDOW = 512
"""Latest latencies that the quantile is taken from."""
REFRESH = 64
"""Answers after which the quantile is taken anew; at first a quarter of those that there are."""
ENOUGH = 20
"""Answers without which nothing is called late."""
SURVEYS, EBB_SURVEYS = 4, 12
"""Looks for attempts to move within a typical latency; the second when a batch nears its end."""
SURVEY_COST_S = 1e-5
"""Seconds between two such looks for each attempt under way: with thousands a look takes milliseconds."""
EBB_GAIN = 1.1
"""What `HedgePolicy.move_gain` is at most then."""
EBB = 8
"""Answers, in whose usual time no new call has come, that speak of a batch's end."""
SMOOTHING = 0.2
"""Weight of the latest latency in an endpoint's mean."""
SUSPECT_FACTOR = 1.1
"""What `HedgePolicy.factor` is at most for an attempt that more than its own age speaks against."""
LAST = 0.05
"""Attempts under way, as a share of the latest answers, that are the last of a wave."""
SLOW = 4.0
"""An endpoint whose answers take so many times the usual is slow: calls go to others first."""


class Pace:
    """How long answers take: over the fleet, and by endpoint; -1 for one that never answered.

    Args:
        size: Number of endpoints.
        policy: What counts as late.

    Attributes:
        slow: Endpoints that are known as slow, and until when.
    """

    def __init__(self, size: int, policy: HedgePolicy) -> None:
        self._policy = policy
        self._latest: list[float] = []
        self.suspect_s = 0.0
        self.answers = 0
        self._refresh_at = ENOUGH
        self.overdue_s: float | None = None
        self.typical_s = 0.0
        self.means = array("d", [-1.0]) * size
        self.last_answer = array("d", [-1.0]) * size
        self.slow: dict[int, float] = {}

    def answered(self, index: int, latency_s: float, now: float) -> None:
        """An endpoint answered after `latency_s`. O(1) on average."""
        mean = self.means[index]
        self.means[index] = latency_s if mean < 0 else mean + SMOOTHING * (latency_s - mean)
        self.last_answer[index] = now
        if len(self._latest) < WINDOW:
            self._latest.append(latency_s)
        else:
            self._latest[self.answers % WINDOW] = latency_s
        self.answers += 1
        if self.answers >= self._refresh_at:
            self._refresh_at = self.answers + min(self.answers // 4, REFRESH)
            self._refresh()

    def forget(self, index: int) -> None:
        """How long an endpoint takes is not known any more."""
        self.means[index] = -1.0

    def is_slow(self, index: int) -> bool:
        """Whether an endpoint takes much longer than answers usually do."""
        return self.means[index] > SLOW * self.typical_s > 0

    def _refresh(self) -> None:
        ordered = sorted(self._latest)
        late = ordered[min(int(self._policy.quantile * len(ordered)), len(ordered) - 1)]
        self.overdue_s = max(self._policy.factor * late, self._policy.floor_s)
        self.suspect_s = max(min(self._policy.factor, SUSPECT_FACTOR) * late, self._policy.floor_s)
        self.typical_s = ordered[len(ordered) // 2]

    def left_s(self, index: int, age_s: float) -> float:
        """Seconds that an attempt on an endpoint may still take; as long again where it is late already.

        Half as long where the endpoint never answered: most likely its first answer is as quick as others'; unless it
        is known as slow.
        """
        mean = self.means[index]
        if mean < 0:
            return max(SLOW * self.typical_s - age_s, age_s) if index in self.slow else age_s / 2
        return age_s if age_s > mean else mean - age_s


class Flight(Protocol):
    """One attempt under way; hashable by identity.

    Attributes:
        index: The endpoint.
        began: When it was sent.
        patient: Whether it had better stay where it is: its endpoint has computed what it shares with others.
    """

    index: int
    began: float

    @property
    def patient(self) -> bool:
        """See above."""
        ...


class Flights:
    """All attempts under way that may still get a rival, oldest first.

    Args:
        pace: How long answers take.
        policy: What counts as late.
        loads: Calls that each endpoint has.
    """

    def __init__(self, pace: Pace, policy: HedgePolicy, loads: Sequence[int]) -> None:
        self._pace = pace
        self._policy = policy
        self._loads = loads
        self._young: dict[Flight, None] = {}
        self._late: dict[Flight, None] = {}
        self._next_survey = 0.0
        self._calls_before = 0
        self._calls_since = 0.0
        self._ebbs = False
        self.calls = 0
        self.hedges = 0
        self.moves = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._late)

    def add(self, flight: Flight) -> None:
        """An attempt was sent."""
        self._young[flight] = None

    def remove(self, flight: Flight) -> None:
        """It ended."""
        if self._young.pop(flight, flight) is flight:
            self._late.pop(flight, None)

    def next_due(self, now: float) -> float | None:
        """When the next attempt may become suspect, overdue or silent; None while nothing can."""
        overdue_s, suspect_s = self._pace.overdue_s, self._pace.suspect_s
        if overdue_s is None:
            return None
        ends = [f.began + overdue_s for f in _first(self._young)]
        ends += [f.began + suspect_s for f in _first(f for f in self._young if f.began + suspect_s > now)]
        ends += [f.began + self._policy.silence * overdue_s for f in _first(self._late)]
        return min(ends, default=None)

    def overdue(self, now: float, *, idle: bool = False) -> list[Flight]:
        """Attempts that get a rival now, because they are late; each is named once, and paid from the budget.

        Args:
            now: Seconds on the caller's clock.
            idle: Whether there are slots that nobody waits for.
        """
        overdue_s, named = self._pace.overdue_s, list[Flight]()
        if overdue_s is None:
            return named
        last = idle and self._are_last(now)
        old = list(itertools.takewhile(lambda f: f.began + self._pace.suspect_s <= now, self._young))
        for flight in old:
            is_paid = self.hedges < self._policy.budget_floor + self._policy.budget_ratio * self.calls
            if flight.began + overdue_s > now and not (is_paid and self._is_suspect(flight, last)):
                continue
            del self._young[flight]
            if is_paid:
                self.hedges += 1
                named.append(flight)
            else:
                self._late[flight] = None
        return named

    def _are_last(self, now: float) -> bool:
        """Whether the attempts under way are the last of a wave: they are few, and all of them old."""
        newest = next(reversed(self._young), None)
        few = len(self) <= max(2, LAST * min(self._pace.answers, WINDOW))
        return few and newest is not None and newest.began + self._pace.suspect_s <= now

    def _is_suspect(self, flight: Flight, last: bool) -> bool:
        """Whether more speaks against it than its age: it is of the last, or its endpoint answers none of several."""
        if flight.patient:
            return False
        return last or (self._loads[flight.index] > 1 and self._pace.last_answer[flight.index] < flight.began)

    def silent(self, now: float) -> list[Flight]:
        """Attempts so late that their endpoint must be hung: it answered nobody since, and others did."""
        limit_s = self._policy.silence * (self._pace.overdue_s or 0.0)
        named: list[Flight] = []
        while limit_s and (flight := next(iter(self._late), None)) and flight.began + limit_s <= now:
            del self._late[flight]
            if self._pace.last_answer[flight.index] < flight.began:
                named.append(flight)
        return named

    def surveyed(self, now: float) -> bool:
        """Whether it is too early to look again for attempts to move."""
        if now < self._next_survey:
            return True
        self._next_survey = now + self.survey_s
        return False

    @property
    def survey_s(self) -> float:
        """Seconds between two looks for attempts to move."""
        surveys = EBB_SURVEYS if self._ebbs else SURVEYS
        least_s = max(self._policy.floor_s * SURVEYS / surveys, SURVEY_COST_S * len(self))
        return max(self._pace.typical_s / surveys, least_s)

    def movable(
        self, now: float, places: Callable[[], Iterable[tuple[int, int]]], may: Callable[[Flight, int], bool]
    ) -> list[tuple[Flight, int]]:
        """Attempts that an idle endpoint would finish well before their own: the slowest to the fastest.

        Costs O(n log n) in the attempts under way; `surveyed` keeps that to O(log n) per call.

        Args:
            now: Seconds on the caller's clock.
            places: Gives idle endpoints, each with how many calls it could take; asked only where that matters.
            may: Whether an attempt may go to an endpoint.

        Returns:
            Pairs of attempt and endpoint; each attempt is named once and never again.
        """
        self._note_ebb(now)
        room = int(self._policy.move_ratio * self.calls) + self._policy.budget_floor - self.moves
        slow = sorted(self._slow(now), key=_by_worth, reverse=True) if room > 0 else []
        pairs: list[tuple[Flight, int]] = []
        for (worth_s, flight), (mean_s, index) in zip(slow, self._fastest(places if slow else list), strict=False):
            if len(pairs) >= room or worth_s <= mean_s:
                break
            if may(flight, index):
                pairs.append((flight, index))
        for flight, _ in pairs:
            self.remove(flight)
        self.moves += len(pairs)
        return pairs

    def _fastest(self, places: Callable[[], Iterable[tuple[int, int]]]) -> Iterator[tuple[float, int]]:
        """Places of endpoints whose pace is known, the fastest first."""
        means = self._pace.means
        known = sorted((mean_s, index, free) for index, free in places() if (mean_s := means[index]) >= 0)
        return ((mean_s, index) for mean_s, index, free in known for _ in range(free))

    def _note_ebb(self, now: float) -> None:
        if self.calls != self._calls_before:
            self._calls_before, self._calls_since = self.calls, now
        self._ebbs = now - self._calls_since >= EBB * self._pace.typical_s / max(len(self), 1)

    def _slow(self, now: float) -> list[tuple[float, Flight]]:
        """Attempts that have some time to go, with what another endpoint must be quicker than for each.

        How long one will take that is late already, nobody knows. Written for speed: it looks at every attempt.
        """
        pace, gain = self._pace, self._policy.move_gain
        means, in_time_gain = pace.means, EBB_GAIN if self._ebbs else gain
        least_s = self._policy.floor_s / gain
        slow: list[tuple[float, Flight]] = []
        for flight in (*self._late, *self._young):
            age_s, mean_s = now - flight.began, means[flight.index]
            if age_s > mean_s:
                worth_s = (pace.left_s(flight.index, age_s) if mean_s < 0 else age_s) / gain
            else:
                worth_s = (mean_s - age_s) / in_time_gain
            if worth_s > least_s:
                slow.append((worth_s, flight))
        return slow


def _first(flights: Iterable[Flight]) -> Iterator[Flight]:
    return itertools.islice(flights, 1)


def _by_worth(entry: tuple[float, Flight]) -> float:
    return entry[0]
