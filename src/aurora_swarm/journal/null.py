"""The journal of those who keep none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aurora_swarm.ports.journal import JournalStatistics
from aurora_swarm.values.record import Record


class NullJournal:
    """Finds nothing, keeps nothing, costs nothing; holds the contract of `Journal` in all but durability."""

    notes: tuple[str, ...] = ()

    async def find(self, keys: Iterable[str]) -> Mapping[str, Record]:  # noqa: ARG002 - the port's signature
        """Nothing."""
        return {}

    async def append(self, *records: Record) -> None:
        """Forget them."""

    def statistics(self) -> JournalStatistics:
        """Zeros."""
        return JournalStatistics(records=0, written=0, commits=0, quarantined=0)

    async def aclose(self) -> None:
        """Nothing to let go of."""
