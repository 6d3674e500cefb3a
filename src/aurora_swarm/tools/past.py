"""Answers of the past, for as long as they are true and there is room. Pure: told the time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable

from aurora_swarm.tools.flights import Execution


class Past:
    """The answers that were last asked for.

    Args:
        max_answers: Answers at most; those that nobody asked for longest go first.
        max_chars: Characters of all answers at most.
    """

    def __init__(self, max_answers: int, max_chars: int) -> None:
        self._max_answers = max_answers
        self._max_chars = max_chars
        self._chars = 0
        self._answers: OrderedDict[Hashable, tuple[Execution, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Hashable, now: float) -> Execution | None:
        """An answer that is still true; None when there is none."""
        found = self._answers.get(key)
        if found is None:
            return None
        if now >= found[1]:
            self._forget(key)
            return None
        self._answers.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, execution: Execution, now: float, ttl_s: float | None) -> None:
        """Remember an answer.

        Args:
            key: Identity of the call.
            execution: How it ended.
            now: The time, in seconds on any clock that does not jump.
            ttl_s: How long it stays true; None for ever.
        """
        self._forget(key)
        self._answers[key] = execution, math.inf if ttl_s is None else now + ttl_s
        self._chars += len(execution.text)
        while self._answers and (len(self._answers) > self._max_answers or self._chars > self._max_chars):
            self._forget(next(iter(self._answers)))

    def _forget(self, key: Hashable) -> None:
        found = self._answers.pop(key, None)
        if found is not None:
            self._chars -= len(found[0].text)
