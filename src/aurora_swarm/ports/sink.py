"""The seam to those who watch."""

from __future__ import annotations

from typing import Protocol

from aurora_swarm.values.event import Event


class Sink(Protocol):
    """Is told what happens.

    `emit` is called on the event loop: it must return at once, must not raise and must not steer.
    """

    def emit(self, event: Event) -> None:
        """Take note of one event."""
        ...
