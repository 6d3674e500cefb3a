"""Which endpoint takes the next call: the one with the least outstanding work.

Pure: knows loads and limits, no clock and no network. Each view keeps its free members in lists by load, so that
picking one, and noting that a load has changed, costs the same whatever the size of the fleet.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Iterator, Sequence

UNLIMITED = 1 << 30
_FULL, _ABSENT, _NOBODY = -1, -2, -1
_SPARSE = 4
"""A view of less than one in so many of the endpoints keeps dicts, not arrays."""


class View:
    """A part of the fleet that calls are spread over. Made by `Router.view`.

    The free members of each load form a list, linked through flat arrays: a large fleet's then fit into a processor's
    cache, where a node for each would not.

    Args:
        members: Endpoint indices, without repetition, at least one.
    """

    __slots__ = ("__weakref__", "_after", "_before", "_first", "_last", "_levels", "_lowest", "closed", "members")

    def __init__(self, members: Sequence[int]) -> None:
        self.members = tuple(members)
        self.closed = 0
        self._levels = self._table(_ABSENT)
        self._after = self._table(_NOBODY)
        self._before = self._table(_NOBODY)
        self._first: list[int] = []
        self._last: list[int] = []
        self._lowest = 0
        for index in self.members:
            self._levels[index] = _FULL

    def _table(self, value: int) -> array[int] | dict[int, int]:
        """One number per member: an array over the indices, or a dict where members are few among many."""
        size = max(self.members) + 1
        if size > _SPARSE * len(self.members):
            return dict.fromkeys(self.members, value)
        return array("i", [value]) * size

    @property
    def out(self) -> bool:
        """Whether no member is open; one on trial is not."""
        return self.closed == len(self.members)

    def __contains__(self, index: int) -> bool:
        levels = self._levels
        if isinstance(levels, dict):
            return index in levels
        return index < len(levels) and levels[index] != _ABSENT

    def note(self, index: int, load: int) -> None:
        """A member's load has changed; -1 for one that may take no more. Among equals it is the last to be picked."""
        was = self._levels[index]
        if was >= 0:
            self._unlink(index, was)
        self._levels[index] = load
        if load < 0:
            return
        while len(self._first) <= load:
            self._first.append(_NOBODY)
            self._last.append(_NOBODY)
        last = self._last[load]
        self._before[index] = last
        if last < 0:
            self._first[load] = index
        else:
            self._after[last] = index
        self._after[index] = _NOBODY
        self._last[load] = index
        self._lowest = min(load, self._lowest)

    def _unlink(self, index: int, load: int) -> None:
        before, after = self._before[index], self._after[index]
        if before < 0:
            self._first[load] = after
        else:
            self._after[before] = after
        if after < 0:
            self._last[load] = before
        else:
            self._before[after] = before

    def least(self, avoid: frozenset[int]) -> int | None:
        """The free member with the least load that waited longest, one outside `avoid` where there is one."""
        first, lowest = self._first, self._lowest
        while lowest < len(first) and first[lowest] < 0:
            lowest += 1
        self._lowest = lowest
        if lowest == len(first):
            return None
        return self._outside(avoid) if avoid else first[lowest]

    def _outside(self, avoid: frozenset[int]) -> int | None:
        second = None
        for index in self._free():
            if index not in avoid:
                return index
            second = index if second is None else second
        return second

    def _free(self) -> Iterator[int]:
        """All free members, in the order in which they are to be picked."""
        for index in self._first[self._lowest :]:
            while index >= 0:
                yield index
                index = self._after[index]  # noqa: PLW2901 - the walk along one list


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

    def set_limit(self, index: int, limit: int, *, trial: bool = False, well: bool = False) -> None:
        """Allow the endpoint so many calls at a time; 0 closes it, unless it is well.

        Args:
            index: Who.
            limit: How many.
            trial: Whether it still counts as closed, although it may be tried.
            well: Whether it still counts as open, although others may leave it none.
        """
        self.limits[index] = limit
        was, self.closed[index] = self.closed[index], not well and (trial or not limit)
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
