"""Results on their way to their place, from the moment in which they are final."""

from __future__ import annotations

import asyncio

from aurora_swarm.cli.keeping import Kept
from aurora_swarm.cli.results import Results
from aurora_swarm.values.event import AgentEnded, Event


class Writer:
    """A sink that writes each result as soon as the agent has ended.

    Whoever stops a run while results wait to be read would lose these, if its reader wrote them. A failure to write is
    kept until somebody asks, because a sink must not raise.

    Args:
        results: Where they go.
        kept: What is repeated of their inputs.
        ends: Cancelled when a result cannot be written; None where somebody asks often enough.
    """

    def __init__(self, results: Results, kept: Kept, ends: asyncio.Task[object] | None = None) -> None:
        self._results: Results | None = results
        self._kept = kept
        self._ends = ends
        self._error: Exception | None = None

    def emit(self, event: Event) -> None:
        """Write the result, if the event brings one."""
        if self._results is None or not isinstance(event, AgentEnded):
            return
        try:
            self._results.write(event.result, self._kept.of(event.result.index))
        except Exception as error:  # noqa: BLE001 - whatever it is, a result is missing, and it must not be lost quietly
            self._error, self._results = error, None
            if self._ends is not None:
                self._ends.cancel()

    def check(self) -> None:
        """Raise what kept a result from being written, if something did; nothing was written after it.

        Raises:
            StorageError: The system refused.
        """
        if self._error is not None:
            if self._ends is not None:
                self._ends.uncancel()
            raise self._error

    def stop(self) -> None:
        """Write nothing more: the agents to come have no input of their own."""
        self._results = None
