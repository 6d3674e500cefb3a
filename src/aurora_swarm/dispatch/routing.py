"""Which endpoint takes the next call: the one with the least outstanding work.

Pure: knows loads and limits, no clock and no network. Each view keeps its free members in lists by load, so that
picking one, and noting that a load has changed, costs the same whatever the size of the fleet.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence

UNLIMITED = 1 << 30
_FULL = -1


class View:
    """A part of the fleet that calls are spread over. Made by `Router.view`.

    Args:
        members: Endpoint indices, without repetition, at least one.
    """

    __slots__ = ("__weakref__", "_by_load", "_levels", "_lowest", "closed", "members")

    def __init__(self, members: Sequence[int]) -> None:
        self.members = tuple(members)
        self.closed = 0
        self._levels = dict.fromkeys(self.members, _FULL)
        self._by_load: list[OrderedDict[int, None]] = []
        self._lowest = 0

    @property
    def out(self) -> bool:
        """Whether no member is open; one on trial is not."""
        return self.closed == len(self.members)

    def __contains__(self, index: int) -> bool:
        return index in self._levels

    def note(self, index: int, load: int) -> None:
        """A member's load has changed; -1 for one that may take no more. Among equals it is the last to be picked."""
        was = self._levels[index]
        if was >= 0:
            del self._by_load[was][index]
        self._levels[index] = load
        if load < 0:
            return
        while len(self._by_load) <= load:
            self._by_load.append(OrderedDict())
        self._by_load[load][index] = None
        self._lowest = min(load, self._lowest)

    def least(self, avoid: frozenset[int]) -> int | None:
        """The free member with the least load that waited longest, one outside `avoid` where there is one."""
        by_load = self._by_load
        while self._lowest < len(by_load) and not by_load[self._lowest]:
            self._lowest += 1
        if not avoid:
            return next(iter(by_load[self._lowest])) if self._lowest < len(by_load) else None
        free = (index for level in by_load[self._lowest :] for index in level)
        second = None
        for index in free:
            if index not in avoid:
                return index
            second = index if second is None else second
        return second


class Router:
    """Loads and limits of a fleet.

    Args:
        size: Number of endpoints.
        limit: Calls that each may have at a time, until `set_limit` says otherwise.
        handicap: Calls by which an endpoint that is set behind seems to have more than it has.
    """

    def __init__(self, size: int, limit: int = UNLIMITED, handicap: int = 1) -> None:
        self.loads = [0] * size
        self.limits = [limit] * size
        self.closed = [not limit] * size
        self._handicap = handicap
        self._behind: set[int] = set()
        self._watchers: list[tuple[weakref.ref[View], ...]] = [()] * size

    def view(self, members: Sequence[int]) -> View:
        """A view whose picks spread over `members`; it sees the load that every other view causes. O(members)."""
        view = View(members)
        view.closed = sum(self.closed[i] for i in members)
        ref = weakref.ref(view)
        shared: dict[int, list[tuple[weakref.ref[View], ...]]] = {}
        for index in view.members:
            before = self._watchers[index]
            both = shared.get(id(before))
            if both is None:  # endpoints with the same views share one tuple
                both = shared[id(before)] = [before, (*(known for known in before if known() is not None), ref)]
            self._watchers[index] = both[1]
            view.note(index, self._level(index))
        return view

    def is_free(self, index: int) -> bool:
        """Whether the endpoint may take one more call."""
        return self.loads[index] < self.limits[index]

    def take_least(self, view: View, avoid: frozenset[int] = frozenset(), weight: int = 1) -> int | None:
        """Send work to the free member with the least load, one outside `avoid` where there is one.

        Ties go to the one that was idle longest.

        Args:
            view: Whom to choose from.
            avoid: Endpoints to use only when nothing else is free.
            weight: Calls that travel together; a free endpoint takes them all.

        Returns:
            Its index, or None when no member is free.
        """
        index = view.least(avoid)
        if index is not None:
            self.take(index, weight)
        return index

    def take(self, index: int, weight: int = 1) -> None:
        """More work is on its way to the endpoint."""
        self.loads[index] += weight
        self._note(index)

    def give(self, index: int, weight: int = 1) -> None:
        """Work of the endpoint is over."""
        self.loads[index] -= weight
        self._note(index)

    def set_limit(self, index: int, limit: int, *, trial: bool = False) -> None:
        """Allow the endpoint so many calls at a time; 0 closes it.

        Args:
            index: Who.
            limit: How many.
            trial: Whether it still counts as closed, although it may be tried.
        """
        self.limits[index] = limit
        was, self.closed[index] = self.closed[index], trial or not limit
        shift = self.closed[index] - was
        for ref in self._watchers[index] if shift else ():
            view = ref()
            if view is not None:
                view.closed += shift
        self._note(index)

    def set_behind(self, index: int, *, behind: bool) -> None:
        """Whether the endpoint is to get calls only when the others have many."""
        (self._behind.add if behind else self._behind.discard)(index)
        self._note(index)

    def _level(self, index: int) -> int:
        load = self.loads[index]
        if load >= self.limits[index]:
            return _FULL
        return load + self._handicap if index in self._behind else load

    def _note(self, index: int) -> None:
        load = self.loads[index]
        level = load if load < self.limits[index] else _FULL
        if self._behind and level >= 0 and index in self._behind:
            level += self._handicap
        for ref in self._watchers[index]:
            view = ref()
            if view is not None:
                view.note(index, level)
