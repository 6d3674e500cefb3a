"""Python's garbage collector while batches run."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_FEW = 1000
"""Objects that an interpreter may keep apart by itself."""

_USUAL = (700, 10, 10)
_PATIENT = (50_000, 1, 3)
"""When the collector looks at new, at young and at all objects: at new ones seldom, as agents hold theirs to the end;
at young ones after every second look, so that no look is at more than some 400,000."""


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
        self._is_ours = False

    @contextmanager
    def during(self) -> Iterator[None]:
        """For one run; runs may overlap."""
        if self._runs == 0 and gc.get_freeze_count() < _FEW:
            gc.freeze()
            self._is_ours = True
            gc.callbacks.append(_keep_apart)
            if gc.get_threshold() == _USUAL:
                gc.set_threshold(*_PATIENT)
        self._runs += 1
        try:
            yield
        finally:
            self._runs -= 1
            if self._runs == 0 and self._is_ours:
                gc.callbacks.remove(_keep_apart)
                gc.unfreeze()
                self._is_ours = False
                if gc.get_threshold() == _PATIENT:
                    gc.set_threshold(*_USUAL)


def _keep_apart(phase: str, info: Mapping[str, int]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()


NEW_OBJECTS_ONLY = NewObjectsOnly()
"""The one of this process, as there is one collector."""
