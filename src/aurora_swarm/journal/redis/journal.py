"""A journal in Redis: what a run has finished, where its node has no disk of its own or is not there for the next run.

One run owns it, by a lease that is renewed. Who finds it owned watches the lease: when it is renewed, its owner lives
and is named; when it runs out, its owner is dead and its place is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice

from aurora_swarm.errors import JournalHeldError, StorageError, UsageError
from aurora_swarm.journal.redis import scripts
from aurora_swarm.journal.redis.connecting import connect, split_option
from aurora_swarm.journal.redis.packing import Piece, joined, piece
from aurora_swarm.journal.redis.writer import Command, Line
from aurora_swarm.journal.schema import checksum, intact
from aurora_swarm.ports.journal import JournalStatistics
from aurora_swarm.values.record import Record

LEASE_S = 3.0
_LOOKS_PER_LEASE = 20
_KEYS_PER_REQUEST = 500
_SUM_BYTES = 4


class RedisJournal:
    """A journal in Redis 6.2 or newer; keeps the contract of `aurora_swarm.ports.journal.Journal`. Made by `open`.

    How much of what was acknowledged survives a crash of Redis itself is up to its ``appendfsync``.

    Args:
        line: To Redis.
        prefix: Of the journal's names.
        token: Of this owner.
        records: How many there are.
        notes: Sentences for the user: what a crash of Redis would cost.
    """

    def __init__(self, line: Line, prefix: str, token: str, records: int, notes: tuple[str, ...]) -> None:
        self._line = line
        self._meta, self._records_name = f"{prefix}meta", f"{prefix}rec"
        self._token = token
        self._before = self._records = records
        self._quarantined = 0
        self._notes = notes
        self._closing: asyncio.Task[None] | None = None
        self._renewing = asyncio.create_task(self._renew(), name="renews the journal's lease")

    @classmethod
    async def open(cls, url: str, *, patience_s: float = 30.0) -> RedisJournal:
        """Open a journal, or create it; when cancelled, it lets go of it before it returns.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes it, with ``?journal=NAME``.
            patience_s: Seconds for which Redis is waited for, each time it cannot be reached.

        Raises:
            JournalHeldError: Another run holds it; the holder is named.
            UsageError: The server refuses us, is too old, or may forget what it was told.
            StorageError: It could not be reached in time.
        """
        address, name = split_option(url, "journal")
        prefix = f"aurora:{{journal:{name or 'journal'}}}:"
        line, notes = await connect(address, scripts.JOURNAL_SCRIPTS, patience_s)
        token = secrets.token_hex(8)
        try:
            records = await _own(line, f"{prefix}meta", token, name or "journal")
        except BaseException:
            await _leave(line, f"{prefix}meta", token)
            raise
        return cls(line, prefix, token, records, notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user: what was damaged, and what a crash of Redis would cost."""
        return self._notes

    async def find(self, keys: Iterable[str]) -> Mapping[str, Record]:
        """The intact records among `keys`.

        Raises:
            StorageError: Redis could not be reached in time, or the journal is closed.
        """
        found: dict[str, Record] = {}
        rest = iter(keys)
        while chunk := list(dict.fromkeys(islice(rest, _KEYS_PER_REQUEST))):
            names = [_encoded(key) for key in chunk]
            values: list[bytes | None] = await self._line.ask("HMGET", self._records_name, *names)
            for key, name, value in zip(chunk, names, values, strict=True):
                if value is None:
                    continue
                if _intact(name, value):
                    found[key] = Record(key, value[_SUM_BYTES:])
                else:
                    await self._quarantine(name, value)
        return found

    async def append(self, *records: Record) -> None:
        """Make records durable, all or none; the first write of a key wins.

        Cancelling it does not take them back: they are written whole or not at all.

        Raises:
            StorageError: They could not be written, or another run took the journal over while Redis was away from us.
        """
        if self._closing is not None:
            raise self._line.shut()
        if not records:
            return
        rows = dict(map(_row, reversed(records)))  # the first one of a key
        while rows:
            known = await self._written(rows)
            # A damaged record is no first write.
            rows = {name: row for name, row in rows.items() if name in known and not _intact(name, known[name])}
            for name in rows:
                await self._quarantine(name, known[name])

    def statistics(self) -> JournalStatistics:
        """A frozen snapshot; cheap."""
        return JournalStatistics(
            records=self._records,
            written=self._records - self._before,
            commits=self._line.joined,
            quarantined=self._quarantined,
        )

    async def aclose(self) -> None:
        """Write what is pending and let go of the journal. May be called twice."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="closes the journal")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._renewing.cancel()
        await asyncio.wait({self._renewing})
        await _leave(self._line, self._meta, self._token)

    async def _written(self, rows: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Write rows whose keys are new; returns what stood there already."""
        part = piece(part for row in rows.items() for part in row)
        reply = await self._line.join("append", part, len(part[1]), self._encode)
        if reply is None:
            remedy = "let one of the two end"
            raise StorageError("another run has taken this journal over", path=self._line.place, remedy=remedy)
        self._records = max(self._records, reply[0])
        return dict(zip(reply[1][::2], reply[1][1::2], strict=True))

    def _encode(self, parts: list[Piece]) -> Command:
        return "EVALSHA", scripts.JOURNAL_APPEND.sha, 1, self._meta, self._token, _lease_ms(), joined(parts)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 4)
            # Where it fails the lease runs out, and whoever appends is told why by its own request.
            with contextlib.suppress(StorageError, UsageError):
                await self._line.call(scripts.JOURNAL_RENEW, self._meta, self._token, _lease_ms())

    async def _quarantine(self, name: bytes, value: bytes) -> None:
        """Take out a damaged record, so that it can be written again."""
        records = await self._line.call(scripts.JOURNAL_DROP, self._meta, self._token, name, value)
        self._before -= self._records - records
        self._records = records
        self._quarantined += 1
        note = f"{self._line.place}: a record was damaged, and will be done again"
        self._notes = (*self._notes, note)


async def _own(line: Line, meta: str, token: str, name: str) -> int:
    """Own a journal, at once or when the lease of a dead owner is over; returns how many records it has."""
    since = datetime.now(UTC).astimezone().isoformat(timespec="seconds")
    me = f"process {os.getpid()} on {socket.gethostname()} since {since}"
    seen: tuple[bytes, int] | None = None
    while True:
        mine, holder, renewed, rest = await line.call(scripts.JOURNAL_OWN, meta, me, _lease_ms(), token)
        if mine:
            return int(rest)
        if seen is not None and seen != (holder, renewed):
            raise JournalHeldError(
                f"{line.place}: journal {name!r} is held by {holder.decode('utf-8', 'replace')}",
                remedy="wait for that run or stop it, or give this run a journal of its own",
            )
        seen = holder, renewed
        await asyncio.sleep(min(max(rest, 1) / 1000, LEASE_S / _LOOKS_PER_LEASE))


async def _leave(line: Line, meta: str, token: str) -> None:
    with contextlib.suppress(StorageError, UsageError):
        await line.call(scripts.JOURNAL_LEAVE, meta, token)
    await line.aclose()
    await line.pool.aclose()


def _lease_ms() -> int:
    return round(1000 * LEASE_S)


def _row(record: Record) -> tuple[bytes, bytes]:
    name = _encoded(record.key)
    return name, checksum(name, record.payload).to_bytes(_SUM_BYTES, "big") + record.payload


def _intact(name: bytes, value: bytes) -> bool:
    return intact(name, int.from_bytes(value[:_SUM_BYTES], "big"), value[_SUM_BYTES:])


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
