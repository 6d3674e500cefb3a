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
    """

    def __init__(self, size: int) -> None:
        self.loads = [0] * size
        self.limits = [UNLIMITED] * size
        self._stamp = size
        self._views: weakref.WeakSet[View] = weakref.WeakSet()

    def view(self, members: Sequence[int]) -> View:
        """A view whose picks spread over `members`; it sees the load that every other view causes."""
        view = View(members)
        view.closed = sum(self.limits[i] == 0 for i in members)
        self._views.add(view)
        return view

    def is_free(self, index: int) -> bool:
        """Whether the endpoint may take one more call."""
        return self.loads[index] < self.limits[index]

    def take_least(self, view: View, avoid: frozenset[int] = frozenset()) -> int | None:
        """Send one more call to the free member with the least load, one outside `avoid` where there is one.

        Ties go to the one that was idle longest.

        Returns:
            Its index, or None when no member is free.
        """
        avoided: list[int] = []
        chosen = self._least(view, avoid, avoided)
        if chosen is None and avoided:
            chosen = min(avoided, key=lambda index: self.loads[index])
        for index in avoided:
            self._note(view, index)
        if chosen is not None:
            self.take(chosen, view)
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

    def take(self, index: int, view: View) -> None:
        """One more call is on its way to the endpoint."""
        self.loads[index] += 1
        if index in view:
            self._note(view, index)

    def give(self, index: int) -> None:
        """A call to the endpoint is over."""
        self.loads[index] -= 1
        self._note_everywhere(index)

    def set_limit(self, index: int, limit: int) -> None:
        """Allow the endpoint so many calls at a time; 0 closes it."""
        was, self.limits[index] = self.limits[index], limit
        shift = (limit == 0) - (was == 0)
        for view in self._views:
            if index in view:
                view.closed += shift
        if limit > was:
            self._note_everywhere(index)

    def _note_everywhere(self, index: int) -> None:
        for view in self._views:
            if index in view:
                self._note(view, index)

    def _note(self, view: View, index: int) -> None:
        self._stamp += 1
        view.push(index, self.loads[index], self._stamp)
