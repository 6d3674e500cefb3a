"""Who goes next: calls wait in order of priority until the pool and an endpoint have room. Pure.

A queue per target (a view, or one endpoint of it). The queues whose target may have room stand in one heap by their
first ticket, so that a freed slot finds the best waiter in O(log n); a queue whose target has no room steps
aside until an endpoint of it opens. Nothing polls.

A call that only prefers an endpoint waits for it in that endpoint's queue; an idle endpoint takes such calls over
from a queue that is longer than what its endpoint has under way.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from aurora_swarm.dispatch.routing import Router, View

LOOKS = 4
"""Queues that an idle endpoint looks at for work to take over."""

NOBODY: frozenset[int] = frozenset()

AGEING_S = 5.0
"""Seconds of waiting that outweigh one turn left: the nearly finished go first, and nobody starves."""


class Ticket:
    """One call's wish for a slot.

    Args:
        view: Where it may go.
        pin: The one endpoint that it asks for, or None for any of the view.
        strict: Whether it waits for `pin` even while that endpoint is closed.
        turns_left: Turns that its agent may still take after this one.
        since: When it first asked, on the caller's clock; kept over retries.
        avoid: Endpoints that failed it already.
        weight: Calls that travel together.
    """

    __slots__ = ("avoid", "granted", "key", "notify", "pin", "since", "strict", "view", "weight", "withdrawn")

    def __init__(
        self,
        view: View,
        *,
        pin: int | None = None,
        strict: bool = False,
        turns_left: int = 0,
        since: float = 0.0,
        avoid: frozenset[int] = NOBODY,
        weight: int = 1,
    ) -> None:
        self.view = view
        self.pin = pin
        self.strict = strict
        self.since = since
        self.key = since + AGEING_S * turns_left
        self.avoid = avoid
        self.weight = weight
        self.granted: int | None = None
        self.withdrawn = False
        self.notify: Callable[[], None] | None = None


class _Queue:
    __slots__ = ("blocked", "heap", "pin", "standing", "view")

    def __init__(self, view: View, pin: int | None) -> None:
        self.view = view
        self.pin = pin
        self.heap: list[tuple[float, int, Ticket]] = []
        self.standing: float | None = None
        self.blocked = False

    def head(self) -> tuple[float, int, Ticket] | None:
        while self.heap and self.heap[0][2].withdrawn:
            heapq.heappop(self.heap)
        return self.heap[0] if self.heap else None


class Admission:
    """Grants slots.

    Args:
        router: Loads and limits of the endpoints.
        concurrency: Calls that may be under way at a time, over the whole fleet.

    Attributes:
        released: Called with an endpoint when a slot of it is free again, before anybody gets it; None for nobody.
    """

    def __init__(self, router: Router, concurrency: int) -> None:
        self._router = router
        self.free = concurrency
        self.waiting = 0
        self.released: Callable[[int], None] | None = None
        self._count = itertools.count()
        self._queues: dict[View | tuple[View, int], _Queue] = {}
        self._ready: list[tuple[float, int, _Queue]] = []
        self._blocked_views: set[_Queue] = set()
        self._blocked_pins: dict[int, list[_Queue]] = {}
        self._backlogs: dict[_Queue, None] = {}

    def request(self, ticket: Ticket) -> int | None:
        """Ask for a slot.

        Returns:
            The endpoint, whose slot is now taken; or None when the ticket waits: its `notify` is called when
            `granted` is set.
        """
        index = self.take(ticket)
        if index is not None:
            return index
        self.waiting += 1
        self._push(self._queue(ticket.view, ticket.pin), ticket)
        self.serve()
        return ticket.granted

    def take(self, ticket: Ticket) -> int | None:
        """A slot if there is one this moment and nobody stands before the ticket; nothing waits."""
        return self._place(ticket) if self.free > 0 and not self._ready else None

    def release(self, index: int, weight: int = 1) -> None:
        """A slot is free again: the best waiter gets it."""
        self.free += weight
        self._router.give(index, weight)
        if self.released is not None:
            self.released(index)
        if self.waiting or self._blocked_pins or self._blocked_views:
            self.opened(index)

    def opened(self, index: int) -> None:
        """An endpoint may have room: queues that wait for it stand up again, and it looks for work where it idles."""
        for queue in self._blocked_pins.pop(index, ()):
            self._backlogs.pop(queue, None)
            queue.blocked = False
            self._stand(queue)
        for queue in [q for q in self._blocked_views if index in q.view]:
            self._blocked_views.discard(queue)
            queue.blocked = False
            self._stand(queue)
        self.serve()
        while self._backlogs and self.free > 0 and self._router.is_free(index) and self._take_over(index):
            pass

    def withdraw(self, ticket: Ticket) -> None:
        """A waiter gives up. One that was granted in the meantime must release its slot itself."""
        if ticket.granted is None and not ticket.withdrawn:
            ticket.withdrawn = True
            self.waiting -= 1

    def waiters(self, view: View) -> list[Ticket]:
        """All who wait for `view` or a member of it."""
        queues = [q for q in self._queues.values() if q.view is view]
        return [t for q in queues for _, _, t in q.heap if not t.withdrawn]

    def waiters_for(self, index: int) -> list[Ticket]:
        """All who wait for this endpoint and no other."""
        queues = [q for q in self._queues.values() if q.pin == index]
        return [t for q in queues for _, _, t in q.heap if not t.withdrawn]

    def views(self) -> list[View]:
        """The views that somebody waits for."""
        return list({q.view: None for q in self._queues.values()})

    def unpin(self, index: int) -> None:
        """An endpoint closed: those who only preferred it now wait for any of their view."""
        for queue in [q for q in self._queues.values() if q.pin == index]:
            movable = [t for _, _, t in queue.heap if not t.strict and not t.withdrawn]
            queue.heap = [entry for entry in queue.heap if entry[2].strict]
            heapq.heapify(queue.heap)
            for ticket in movable:
                ticket.pin = None
                self._push(self._queue(ticket.view, None), ticket)
        self.serve()

    def serve(self) -> None:
        """Grant what can be granted."""
        while self.free > 0 and self._ready:
            key, _, queue = heapq.heappop(self._ready)
            if queue.standing != key:
                continue
            queue.standing = None
            head = queue.head()
            if head is None:
                self._drop(queue)
            elif head[0] != key:
                self._stand(queue)
            else:
                self._grant(queue, head[2])

    def _grant(self, queue: _Queue, ticket: Ticket) -> None:
        index = self._place(ticket)
        if index is None:
            self._block(queue)
            return
        heapq.heappop(queue.heap)
        self._stand(queue)
        self._tell(ticket, index)

    def _tell(self, ticket: Ticket, index: int) -> None:
        self.waiting -= 1
        ticket.granted = index
        if ticket.notify is not None:
            ticket.notify()

    def _block(self, queue: _Queue) -> None:
        queue.blocked = True
        if queue.pin is None:
            self._blocked_views.add(queue)
        else:
            self._blocked_pins.setdefault(queue.pin, []).append(queue)
            self._backlogs[queue] = None

    def _take_over(self, index: int) -> bool:
        """Give an idle endpoint a call that waits for another one; False when none waits long enough."""
        for queue in list(itertools.islice(self._backlogs, LOOKS)):
            del self._backlogs[queue]
            self._backlogs[queue] = None
            head = queue.head()
            if head is None or head[2].strict or index not in queue.view:
                continue
            if queue.pin is not None and len(queue.heap) > max(1, self._router.loads[queue.pin]):
                heapq.heappop(queue.heap)
                self._router.take(index, head[2].weight)
                self.free -= head[2].weight
                self._tell(head[2], index)
                return True
        return False

    def _place(self, ticket: Ticket) -> int | None:
        if ticket.pin is None:
            index = self._router.take_least(ticket.view, ticket.avoid, ticket.weight)
        elif self._router.is_free(ticket.pin):
            index = ticket.pin
            self._router.take(index, ticket.weight)
        else:
            index = None
        if index is not None:
            self.free -= ticket.weight
        return index

    def _push(self, queue: _Queue, ticket: Ticket) -> None:
        heapq.heappush(queue.heap, (ticket.key, next(self._count), ticket))
        if not queue.blocked:
            self._stand(queue)

    def _queue(self, view: View, pin: int | None) -> _Queue:
        key: View | tuple[View, int] = view if pin is None else (view, pin)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue(view, pin)
        return queue

    def _stand(self, queue: _Queue) -> None:
        head = queue.head()
        if head is None:
            self._drop(queue)
        elif queue.standing is None or head[0] < queue.standing:
            queue.standing = head[0]
            heapq.heappush(self._ready, (head[0], next(self._count), queue))

    def _drop(self, queue: _Queue) -> None:
        queue.standing = None
        self._queues.pop(queue.view if queue.pin is None else (queue.view, queue.pin), None)
