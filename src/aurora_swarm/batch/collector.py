"""Python's garbage collector while batches run."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_FEW = 1000
"""Objects that an interpreter may keep apart by itself."""

_USUAL = (700, 10, 10)
_LEAST, _PER_AGENT, _MOST = 50_000, 64, 400_000
"""New objects after which the collector looks: no fewer than the agents under way hold, which it would look at in vain
while they live."""


class NewObjectsOnly:
    """Keeps the collector from looking at what exists already: modules, schemas, the caller's own data.

    A full collection looks at all of it, which takes 30 ms and more in an ordinary process, and a batch of agents
    causes several; with ten thousand agents under way it takes a second. Each is a pause for everybody. So what
    survives a full collection is not looked at again either: the next one looks at what is newer, some 400,000
    objects, for 30 ms and more. Garbage that is older, and consists of circles, waits until the last run has ended.
    Where the process has told the collector something of the kind itself, nothing is changed.
    """

    def __init__(self) -> None:
        self._runs = 0
        self._agents = 0
        self._is_ours = False
        self._threshold = _USUAL

    @contextmanager
    def during(self, agents: int = 0) -> Iterator[None]:
        """For one run; runs may overlap.

        Args:
            agents: How many may be under way at a time.
        """
        if self._runs == 0 and gc.get_freeze_count() < _FEW:
            gc.freeze()
            self._is_ours = True
            gc.callbacks.append(_keep_apart)
        self._runs += 1
        self._expect(agents)
        try:
            yield
        finally:
            self._runs -= 1
            self._expect(-agents)
            if self._runs == 0 and self._is_ours:
                gc.callbacks.remove(_keep_apart)
                gc.unfreeze()
                self._is_ours = False

    def _expect(self, agents: int) -> None:
        """So many agents more are under way: let the collector look less often, or as often as ever after all."""
        self._agents += agents
        if self._is_ours and gc.get_threshold() == self._threshold:
            self._threshold = patience(self._agents) if self._runs else _USUAL
            gc.set_threshold(*self._threshold)


def patience(agents: int) -> tuple[int, int, int]:
    """When the collector looks at new, at young and at all objects. Pure.

    At new ones seldom, as agents hold theirs to the end; at young ones after every second look, so that no look is at
    more than eight times as many as the first.

    Args:
        agents: How many may be under way.
    """
    return min(max(_LEAST, _PER_AGENT * agents), _MOST), 1, 3


def _keep_apart(phase: str, info: Mapping[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()


NEW_OBJECTS_ONLY = NewObjectsOnly()
"""The one of this process, as there is one collector."""
