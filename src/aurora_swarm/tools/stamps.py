"""The state of files, as text that is another one when they have changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

SETTLED_NS = 20_000_000
"""A file that changed less than this ago may change again within the same tick of the clock that its times are taken
from, and look the same. So nothing is remembered of it yet. Ticks are 10 ms at most."""


def state_of(*paths: Path) -> str | None:
    """The state of files; None when the first is not there."""
    states = [_state(path) for path in paths]
    return None if states[0] is None else " ".join(described(state) for state in states if state is not None)


def stamp_of(*paths: Path) -> str | None:
    """The state of files, for who remembers what was in them; None when one has changed just now."""
    states = [state for path in paths if (state := _state(path)) is not None]
    return state_of(*paths) if all(map(is_settled, states)) else None


def is_settled(state: os.stat_result) -> bool:
    """Whether a file changed so long ago that another change would be seen."""
    return time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) >= SETTLED_NS


def described(state: os.stat_result) -> str:
    """What of a file's state is another one when it has changed."""
    return ":".join(map(str, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)))


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None
