"""A journal in a SQLite file on a local disk: durable before acknowledged, one commit for all who wait."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Self

from aurora_swarm.errors import StorageError
from aurora_swarm.journal.schema import Row, checksum
from aurora_swarm.journal.store import RecordStore
from aurora_swarm.journal.writer import Append, Find, Writer
from aurora_swarm.ports.journal import JournalStatistics
from aurora_swarm.values.record import Record

MAX_RECORD_BYTES = 500_000_000
"""SQLite takes values of up to a billion bytes."""

_KEYS_PER_REQUEST = 5_000


class SqliteJournal:
    """A journal on a local disk; keeps the contract of `aurora_swarm.ports.journal.Journal`.

    Made by `open`. It belongs to the event loop in which it was opened. After a write has failed, every later `append`
    fails at once. A process may end without `aclose`: what was acknowledged is found again.

    Args:
        writer: The thread that owns the file.
        store: The file.
    """

    def __init__(self, writer: Writer, store: RecordStore) -> None:
        self._writer = writer
        self._store = store
        self._closing = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the journal at a path, or create it, and check all of it; a large one is checked before the first write.

        When cancelled, it lets go of the file before it returns.

        Raises:
            JournalHeldError: Another run holds it; the holder is named.
            JournalForeignError: Something else is there, or a newer version wrote it; it is left as it was.
            JournalError: The place cannot hold a journal, such as a network file system.
            StorageError: It could not be read or written.
        """
        writer = Writer(path, asyncio.get_running_loop())
        try:
            return cls(writer, await asyncio.shield(writer.opened))
        except asyncio.CancelledError:
            writer.close()
            await asyncio.shield(writer.ended)
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should be told: what was damaged, what that cost, and where the damaged file is kept.

        More may be known once the journal is closed.
        """
        return self._store.notes

    async def find(self, keys: Iterable[str]) -> Mapping[str, Record]:
        """The intact records among `keys`.

        Raises:
            StorageError: The file cannot be read, or the journal is closed.
        """
        found: dict[str, Record] = {}
        rest = iter(keys)
        while chunk := {_encoded(key): key for key in islice(rest, _KEYS_PER_REQUEST)}:
            self._refuse_closed()
            request = Find(asyncio.get_running_loop().create_future(), list(chunk))
            self._writer.ask(request)
            found |= {chunk[key]: Record(chunk[key], payload) for key, payload in (await request.future).items()}
        return found

    async def append(self, *records: Record) -> None:
        """Make records durable, all or none; the first write of a key wins.

        Cancelling it does not take them back: they are written whole or not at all.

        Raises:
            StorageError: They could not be written, an earlier write failed, or the journal is closed.
        """
        if not records:
            return
        rows = [self._row(record) for record in records]
        self._refuse_closed()
        if self._writer.failure is not None:
            raise copy.copy(self._writer.failure)
        request = Append(asyncio.get_running_loop().create_future(), rows)
        self._writer.ask(request)
        await request.future

    def statistics(self) -> JournalStatistics:
        """What it holds and did."""
        return self._store.statistics()

    async def aclose(self) -> None:
        """Write what is pending and let go of the file; may be called twice.

        When cancelled, the closing goes on and is done soon after.
        """
        if not self._closing:
            self._closing = True
            self._writer.close()
        await asyncio.shield(self._writer.ended)

    def _refuse_closed(self) -> None:
        if self._closing:
            raise StorageError("the journal is closed", path=str(self._store.path))

    def _row(self, record: Record) -> Row:
        key = _encoded(record.key)
        if len(key) + len(record.payload) > MAX_RECORD_BYTES:
            problem = f"a record of {len(record.payload):,} bytes is more than the {MAX_RECORD_BYTES:,} that fit"
            raise StorageError(problem, path=str(self._store.path), remedy="keep large results in files of their own")
        return key, checksum(key, record.payload), record.payload


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
