"""The time of a run: that of the event loop, but it stands still while the run is paused."""

from __future__ import annotations

import asyncio


class RunClock:
    """Leases, rests and signs of life go by it, so that a pause needs to touch none of them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._behind_s = 0.0
        self._stopped_at: float | None = None

    def loop_now(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def now(self) -> float:
        """The run's time."""
        return (self._loop.time() if self._stopped_at is None else self._stopped_at) - self._behind_s

    def loop_time_of(self, moment: float) -> float:
        """When it will be so late by the loop's time, if nobody stops the run's."""
        return moment + self._behind_s

    def stop(self) -> None:
        """Stand still; nothing happens when it does already."""
        if self._stopped_at is None:
            self._stopped_at = self._loop.time()

    def go_on(self) -> None:
        """Go on from where it stood."""
        if self._stopped_at is not None:
            self._behind_s += self._loop.time() - self._stopped_at
            self._stopped_at = None
