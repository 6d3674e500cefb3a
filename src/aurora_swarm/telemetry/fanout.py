"""Tells several sinks."""

from __future__ import annotations

import logging

from aurora_swarm.ports.sink import Sink
from aurora_swarm.values.event import Event

_LOGGER = logging.getLogger(__name__)


class Fanout:
    """Hands every event to every sink, in their order.

    A sink that raises is dropped, with one warning in the log: watching must not disturb the run, nor the other sinks.

    Args:
        sinks: Who is told; nobody is fine, and costs nothing.
    """

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def emit(self, event: Event) -> None:
        """Tell every sink."""
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception as error:  # noqa: BLE001 - whatever a watcher raises, the run goes on
                self._sinks = tuple(other for other in self._sinks if other is not sink)
                _LOGGER.warning("%s raised %r; it is told nothing more", type(sink).__name__, error)
