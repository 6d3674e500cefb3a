"""Which endpoint takes the next call: the one with the least outstanding work.

Pure: knows loads and limits, no clock and no network. Picking costs O(log n) amortised, whatever the size of
the fleet: each view keeps a heap whose stale entries are dropped when they surface.
"""

from __future__ import annotations

import heapq
import weakref
from collections.abc import Sequence

UNLIMITED = 1 << 30


class View:
    """A part of the fleet that calls are spread over. Made by `Router.view`.

    Args:
        members: Endpoint indices, without repetition, at least one.
    """

    __slots__ = ("__weakref__", "_heap", "_stamps", "closed", "members")

    def __init__(self, members: Sequence[int]) -> None:
        self.members = tuple(members)
        self.closed = 0
        self._heap: list[tuple[int, int, int]] = [(0, rank, i) for rank, i in enumerate(self.members)]
        self._stamps: dict[int, int] = {i: rank for rank, i in enumerate(self.members)}

    @property
    def out(self) -> bool:
        """Whether no member may take a call at present, whatever its load."""
        return self.closed == len(self.members)

    def __contains__(self, index: int) -> bool:
        return index in self._stamps

    def push(self, index: int, load: int, stamp: int) -> None:
        """Note the load of a member; older notes of it are void."""
        if len(self._heap) > 4 * len(self.members) + 64:
            self._heap = [entry for entry in self._heap if self._stamps[entry[2]] == entry[1]]
            heapq.heapify(self._heap)
        self._stamps[index] = stamp
        heapq.heappush(self._heap, (load, stamp, index))

    def pop(self) -> tuple[int, int] | None:
        """The member that seemed least loaded when it was noted, with that load; None when none is noted."""
        while self._heap:
            load, stamp, index = heapq.heappop(self._heap)
            if self._stamps[index] == stamp:
                return index, load
        return None


class Router:
    """Loads and limits of a fleet.

    Args:
        size: Number of endpoints.
        limit: Calls that each may have at a time, until `set_limit` says otherwise.
    """

    def __init__(self, size: int, limit: int = UNLIMITED) -> None:
        self.loads = [0] * size
        self.limits = [limit] * size
        self._stamp = size
        self._watchers: list[list[weakref.ref[View]]] = [[] for _ in range(size)]

    def view(self, members: Sequence[int]) -> View:
        """A view whose picks spread over `members`; it sees the load that every other view causes. O(members)."""
        view = View(members)
        view.closed = sum(self.limits[i] == 0 for i in members)
        ref = weakref.ref(view)
        for index in view.members:
            watchers = self._watchers[index]
            if watchers and watchers[-1]() is None:
                watchers[:] = [known for known in watchers if known() is not None]
            watchers.append(ref)
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
        avoided: list[int] = []
        chosen = self._least(view, avoid, avoided)
        if chosen is None and avoided:
            chosen = min(avoided, key=self.loads.__getitem__)
        for index in avoided:
            self._note(view, index)
        if chosen is not None:
            self.take(chosen, view, weight)
        return chosen

    def _least(self, view: View, avoid: frozenset[int], avoided: list[int]) -> int | None:
        while (entry := view.pop()) is not None:
            index, load = entry
            if not self.is_free(index):
                continue
            if load < self.loads[index]:
                self._note(view, index)
            elif index in avoid:
                avoided.append(index)
            else:
                return index
        return None

    def take(self, index: int, view: View, weight: int = 1) -> None:
        """More work is on its way to the endpoint."""
        self.loads[index] += weight
        if index in view and self.is_free(index):
            self._note(view, index)

    def give(self, index: int, weight: int = 1) -> None:
        """Work of the endpoint is over."""
        self.loads[index] -= weight
        if self.is_free(index):
            self._note_everywhere(index)

    def set_limit(self, index: int, limit: int) -> None:
        """Allow the endpoint so many calls at a time; 0 closes it."""
        was, self.limits[index] = self.limits[index], limit
        shift = (limit == 0) - (was == 0)
        if shift:
            for view in self._views_of(index):
                view.closed += shift
        if limit > was:
            self._note_everywhere(index)

    def _note_everywhere(self, index: int) -> None:
        load = self.loads[index]
        self._stamp = stamp = self._stamp + 1
        for ref in self._watchers[index]:
            view = ref()
            if view is not None:
                view.push(index, load, stamp)

    def _views_of(self, index: int) -> list[View]:
        return [view for ref in self._watchers[index] if (view := ref()) is not None]

    def _note(self, view: View, index: int) -> None:
        self._stamp += 1
        view.push(index, self.loads[index], self._stamp)
