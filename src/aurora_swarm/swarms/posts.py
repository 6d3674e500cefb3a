"""A worker's place in the crew, and those who are free in the order in which they are chosen. Pure."""

from __future__ import annotations

import heapq
from typing import Literal

from aurora_swarm.swarms.ready import Skills
from aurora_swarm.swarms.standing import Standing

WorkerState = Literal["idle", "working", "paused", "gone"]


class Post:
    """A worker's place in the crew. Read by others, changed by the roster alone."""

    __slots__ = (
        "came", "failures", "given", "id", "is_paused", "rest_s", "rests_until", "since", "skills", "standing", "state",
        "task", "turn",
    )  # fmt: skip

    def __init__(self, worker: str, skills: Skills, now: float) -> None:
        self.id = worker
        self.skills = skills
        self.standing = Standing()
        self.state: WorkerState = "idle"
        self.task = ""
        self.is_paused = False
        self.failures = 0
        self.rest_s = 0.0
        self.rests_until = 0.0
        self.turn = 0
        self.given = 0
        self.came = self.since = now


class Free:
    """Free workers of one kind, the best first; entries of a worker who is not free any more are skipped."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Post]] = []

    def put(self, key: float, post: Post) -> None:
        """A worker is free; a smaller key goes first. The entry stands until its turn changes."""
        heapq.heappush(self._heap, (key, post.turn, post))

    def first(self, count: int) -> list[Post]:
        """The first so many, who stay where they are."""
        found: list[tuple[float, int, Post]] = []
        while self._heap and len(found) < count:
            entry = heapq.heappop(self._heap)
            if entry[2].turn == entry[1]:
                found.append(entry)
        for entry in found:
            heapq.heappush(self._heap, entry)
        return [post for _, _, post in found]

    def swept(self, limit: int) -> None:
        """Forget entries that would be skipped, when there are many."""
        if len(self._heap) > 2 * limit + 64:
            self._heap = [entry for entry in self._heap if entry[2].turn == entry[1]]
            heapq.heapify(self._heap)
