"""Tasks that may begin, the one to begin next first. Pure.

Priority goes first, and waiting counts: a task gains one of priority in `AGEING_S` seconds. Because all gain alike,
the order of two tasks never changes, so each has a fixed key and nothing is sorted again.

A task whose specialists are all busy is put aside with those that want the same, so that it is not looked at again
until one of them is free.
"""

from __future__ import annotations

import heapq

AGEING_S = 30.0
"""Seconds of waiting that outweigh one of priority."""

Skills = frozenset[str]
_Entry = tuple[float, int, str]


class ReadyQueue:
    """Ids of tasks in the order in which they should begin; each operation takes logarithmic time."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._aside: dict[Skills, list[_Entry]] = {}
        self._entries: dict[str, _Entry] = {}
        self._skills: dict[str, Skills] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, task: str) -> bool:
        return task in self._entries

    def put(self, task: str, skills: Skills, priority: float, since_s: float) -> None:
        """A task has become ready.

        Args:
            task: Its id; not in the queue.
            skills: What it wants of a worker.
            priority: Higher goes first.
            since_s: Since when it waits.
        """
        self._count += 1
        entry = (since_s / AGEING_S - priority, self._count, task)
        self._entries[task] = entry
        self._skills[task] = skills
        heapq.heappush(self._heap, entry)

    def remove(self, task: str) -> None:
        """It has begun, or may not any more; nothing happens if it is not there."""
        self._entries.pop(task, None)
        self._skills.pop(task, None)

    def pop(self) -> str | None:
        """The first task that is not put aside; it has to be given to `remove`, `put_back` or `put_aside` then."""
        while self._heap:
            entry = heapq.heappop(self._heap)
            if self._entries.get(entry[2]) is entry:
                return entry[2]
        return None

    def put_back(self, task: str) -> None:
        """It was popped, and nobody can take it now."""
        heapq.heappush(self._heap, self._entries[task])

    def put_aside(self, task: str) -> None:
        """It was popped, and all who are good at it are busy."""
        heapq.heappush(self._aside.setdefault(self._skills[task], []), self._entries[task])

    def bring_back(self, skills: Skills | None = None) -> None:
        """Somebody is free: the first task of each kind that it is good at counts again.

        Args:
            skills: What the worker is good at; None to bring back all tasks, because the crew has changed.
        """
        for wanted in [wanted for wanted in self._aside if skills is None or wanted <= skills]:
            heap = self._aside[wanted]
            while heap:
                entry = heapq.heappop(heap)
                if self._entries.get(entry[2]) is entry:
                    heapq.heappush(self._heap, entry)
                    if skills is not None:
                        break
            if not heap:
                del self._aside[wanted]

    def validate(self) -> None:
        """Check that every task can still be found; for tests, takes linear time."""
        entries = [*self._heap, *(entry for heap in self._aside.values() for entry in heap)]
        found = [entry[2] for entry in entries if self._entries.get(entry[2]) is entry]
        assert sorted(found) == sorted(self._entries)
        assert set(self._skills) == set(self._entries)

    def aside(self) -> list[Skills]:
        """What the tasks that were put aside want of a worker."""
        return list(self._aside)
