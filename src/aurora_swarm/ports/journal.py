"""The seam to durable storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from aurora_swarm.values.record import Record


class JournalStatistics(msgspec.Struct, frozen=True):
    """What a journal holds and did.

    Args:
        records: Intact records, those of earlier runs included.
        written: Records written by this run.
        commits: Durable commits of this run; several writers share one.
        quarantined: Damaged records found, kept aside and never used.
    """

    records: int
    written: int
    commits: int
    quarantined: int


class Journal(Protocol):
    """Keeps finished work.

    Contract, held by one suite for every journal (`aurora_swarm.testing.journal_contract`):

    * `append` returns after its records are durable, and not before. Concurrent callers share a commit.
    * The first write of a key wins; a later one is ignored and is no error.
    * A record that does not match its checksum is never returned; it is counted as quarantined.
    * One owner at a time: opening a held journal raises `JournalHeldError` and names the holder.
    * Opening something else raises `JournalForeignError` and changes nothing in it.
    * Cancelling an `append` leaves its records written whole or not at all.
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what was damaged, what that cost, and where the damaged file is kept."""
        ...

    async def find(self, keys: Iterable[str]) -> Mapping[str, Record]:
        """The intact records among `keys`."""
        ...

    async def append(self, *records: Record) -> None:
        """Make records durable.

        Raises:
            StorageError: They could not be written; nothing of them is acknowledged.
        """
        ...

    def statistics(self) -> JournalStatistics:
        """A frozen snapshot; cheap."""
        ...

    async def aclose(self) -> None:
        """Write what is pending and let go of the journal. May be called twice."""
        ...
