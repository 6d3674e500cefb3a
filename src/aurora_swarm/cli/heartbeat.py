"""Signs of life while something takes time: nobody has to wonder for long whether it still runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from aurora_swarm.cli.voice import clock, say

HEARTBEAT_S = 3.0
"""Seconds between two lines."""


class Progress(Protocol):
    """Shows what goes on, within a ``with``."""

    def say(self, text: str) -> None:
        """A sentence about what is begun; it is repeated, or stays in view, while that takes time."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Silence:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""


class PlainProgress:
    """A line every few seconds on stderr, from a thread of its own: a busy event loop does not silence it.

    Args:
        describe: How far it is; empty while the last sentence says it all.
        interval_s: Seconds between two lines.
    """

    def __init__(self, describe: Callable[[], str] = str, *, interval_s: float = HEARTBEAT_S) -> None:
        self._describe = describe
        self._interval_s = interval_s
        self._began = time.monotonic()
        self._status = "starting"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def say(self, text: str) -> None:
        """Print a sentence, and repeat it while there is nothing else to tell."""
        self._status = text
        say(text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            now = self._describe() or f"still at it: {self._status}"
            say(f"[{clock(time.monotonic() - self._began)}] {now}")


def open_wait(*, quiet: bool) -> Progress:
    """Signs of life for something that has no figures."""
    return Silence() if quiet else PlainProgress()
