"""What a simulated fleet has seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


class FleetCounts(msgspec.Struct, frozen=True):
    """Counts of one server or of a whole fleet, since its start.

    Args:
        requests: ``POST`` requests that arrived.
        looks: ``GET`` requests that arrived.
        answered: Requests that got their whole, right answer.
        refused: Requests that were refused with a 4xx for what they asked.
        overloaded: Requests that were refused with 429 because the queue was full.
        sequences: Sequences that began to run.
        completed: Sequences that ran to their end.
        cancelled: Requests whose client went away before the answer was whole.
        faults: Faults that were injected, by kind; a ``refuse`` counts once for each period.
        on_dead: Requests that arrived at a server while it could answer none.
        prompt_tokens: Tokens of the prompts that were run.
        cached_tokens: Those of them that came from a prefix cache.
        prefix_computations: Prompts of a block or more whose first block was not cached.
        completion_tokens: Tokens generated for sequences that ran to their end.
        busy_s: Seconds that sequences ran, summed over the sequences.
        running: Sequences that run now.
        queued: Sequences that wait now.
        most_running: Most sequences that ran at a time on one server.
        most_queued: Most sequences that waited at a time on one server.
        connections: Connections accepted.
        open_connections: Connections open now.
    """

    requests: int = 0
    looks: int = 0
    answered: int = 0
    refused: int = 0
    overloaded: int = 0
    sequences: int = 0
    completed: int = 0
    cancelled: int = 0
    faults: Mapping[str, int] = {}
    on_dead: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefix_computations: int = 0
    completion_tokens: int = 0
    busy_s: float = 0.0
    running: int = 0
    queued: int = 0
    most_running: int = 0
    most_queued: int = 0
    connections: int = 0
    open_connections: int = 0


class Tally(msgspec.Struct):
    """Counts while they are counted; the fields are those of `FleetCounts`."""

    requests: int = 0
    looks: int = 0
    answered: int = 0
    refused: int = 0
    overloaded: int = 0
    sequences: int = 0
    completed: int = 0
    cancelled: int = 0
    faults: dict[str, int] = {}
    on_dead: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    prefix_computations: int = 0
    completion_tokens: int = 0
    busy_s: float = 0.0
    running: int = 0
    queued: int = 0
    most_running: int = 0
    most_queued: int = 0
    connections: int = 0
    open_connections: int = 0

    def injected(self, kind: str) -> None:
        """Count a fault."""
        self.faults[kind] = self.faults.get(kind, 0) + 1


def total(tallies: Iterable[Tally]) -> FleetCounts:
    """The counts of several servers as one record."""
    sums = Tally()
    for tally in tallies:
        for name in _SUMMED:
            setattr(sums, name, getattr(sums, name) + getattr(tally, name))
        for name in _LARGEST:
            setattr(sums, name, max(getattr(sums, name), getattr(tally, name)))
        for kind, count in tuple(tally.faults.items()):  # another thread may be counting
            sums.faults[kind] = sums.faults.get(kind, 0) + count
    return FleetCounts(**msgspec.structs.asdict(sums))


_LARGEST = ("most_running", "most_queued")
_SUMMED = tuple(name for name in Tally.__struct_fields__ if name not in {*_LARGEST, "faults"})
