"""Rounds that overlap: who has ended which, and which may begin. Pure.

The bound is that of stale synchronous parallel work, after Ho et al., "More Effective Distributed ML via a Stale
Synchronous Parallel Parameter Server" (2013).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec


class Crew(msgspec.Struct, frozen=True):
    """Who works side by side.

    Args:
        size: Agents.
        needed: How many must answer in a round.
        patient: Whether a round waits for all of them all the same.
    """

    size: int
    needed: int
    patient: bool


class Rounds:
    """Counts the ends of rounds.

    A round is complete when every crew has its answers; a patient crew also waits until all its agents have ended it.

    Args:
        crews: All of them.
        staleness: How many incomplete rounds an agent may be ahead of.
        first: The first round that counts.

    Attributes:
        completed: Rounds that are complete, those before `first` included.
    """

    def __init__(self, crews: Sequence[Crew], staleness: int, first: int) -> None:
        self._crews = tuple(crews)
        self._staleness = staleness
        self._ended: tuple[Counter[int], ...] = tuple(Counter() for _ in crews)
        self._answered: tuple[Counter[int], ...] = tuple(Counter() for _ in crews)
        self.completed = first

    def end(self, crew: int, number: int, *, answered: bool) -> None:
        """One agent of a crew has ended a round."""
        self._ended[crew][number] += 1
        self._answered[crew][number] += answered

    def advance(self) -> bool:
        """Count the next round, if it is complete."""
        if not all(map(self._is_done, range(len(self._crews)))):
            return False
        self.completed += 1
        return True

    def may_begin(self, number: int) -> bool:
        """Whether an agent may take up a round."""
        return number <= self.completed + self._staleness

    def short(self) -> int | None:
        """A crew that cannot complete the next round any more: all have ended it, too few have answered."""
        for place, crew in enumerate(self._crews):
            if self._ended[place][self.completed] == crew.size and self._answered[place][self.completed] < crew.needed:
                return place
        return None

    def answers(self, crew: int) -> int:
        """How many of a crew have answered in the next round to complete."""
        return self._answered[crew][self.completed]

    def _is_done(self, place: int) -> bool:
        crew, number = self._crews[place], self.completed
        if self._answered[place][number] < crew.needed:
            return False
        return not crew.patient or self._ended[place][number] == crew.size
