"""What processes share besides jobs: shares of what is bounded, and answers of pure tools. Belongs to one thread."""

from __future__ import annotations

import sqlite3

from aurora_swarm.journal.shares import fair_part, granted
from aurora_swarm.journal.sqlite_shards_schema import now


class SharedTables:
    """The shares and answers of one run. What writes must be called inside a transaction that does.

    Args:
        db: The file.
        run: The run's number in it.
        lease_s: Seconds for which an owner keeps what it does not renew.
    """

    def __init__(self, db: sqlite3.Connection, run: int, lease_s: float) -> None:
        self._db = db
        self._run = run
        self._lease_s = lease_s

    def share(self, resource: bytes, owner: bytes, *, held: int, want: int, total: int) -> int:
        """Renew an owner's share; returns how much it is now."""
        here = (self._run, resource)
        self._db.execute("DELETE FROM shares WHERE run = ? AND resource = ? AND until <= ?", (*here, now()))
        rows = self._db.execute("SELECT owner, want, share FROM shares WHERE run = ? AND resource = ?", here).fetchall()
        # Names that are no UTF-8 sort as well as others.
        wants = {row[0].decode("latin-1"): row[1] for row in rows} | {owner.decode("latin-1"): want}
        others = sum(row[2] for row in rows if row[0] != owner)
        mine = next((row[2] for row in rows if row[0] == owner), 0)
        part = fair_part(wants, owner.decode("latin-1"), total)
        share = granted(part=part, held=min(held, mine), free=total - others)
        if share or want:
            row = (*here, owner, want, share, now() + self._lease_s)
            self._db.execute("INSERT OR REPLACE INTO shares VALUES (?, ?, ?, ?, ?, ?)", row)
        else:
            sql = "DELETE FROM shares WHERE run = ? AND resource = ? AND owner = ?"
            self._db.execute(sql, (*here, owner))
        return share

    def answer(self, key: bytes) -> tuple[bool, bytes | None]:
        """Whether a call is being made, and what an ended one came to."""
        row = self._row(key)
        if row is None:
            return False, None
        return row[1] is None, row[1]

    def begin(self, key: bytes, owner: bytes) -> bool:
        """Whether the owner is to make a call that nobody makes or made."""
        if self._row(key) is not None:
            return False
        row = (self._run, key, owner, now() + self._lease_s)
        self._db.execute("INSERT OR REPLACE INTO answers (run, key, owner, until) VALUES (?, ?, ?, ?)", row)
        return True

    def renew(self, key: bytes, owner: bytes) -> None:
        """Keep other processes from making a call that lasts."""
        self._db.execute(
            "UPDATE answers SET until = ? WHERE run = ? AND key = ? AND owner = ? AND payload IS NULL",
            (now() + self._lease_s, self._run, key, owner),
        )

    def end(self, key: bytes, owner: bytes, payload: bytes | None, ttl_s: float | None) -> None:
        """Keep the first answer, whoever brings it; what failed is free for another one, if it was the owner's."""
        if payload is None:
            self._db.execute(
                "DELETE FROM answers WHERE run = ? AND key = ? AND owner = ? AND payload IS NULL",
                (self._run, key, owner),
            )
            return
        row = self._row(key)
        if row is None or row[1] is None:
            until = None if ttl_s is None else now() + ttl_s
            self._db.execute(
                "INSERT OR REPLACE INTO answers (run, key, owner, until, payload) VALUES (?, ?, ?, ?, ?)",
                (self._run, key, owner, until, payload),
            )

    def _row(self, key: bytes) -> tuple[bytes, bytes | None] | None:
        """Owner and answer of a call that is being made or has ended, if its time is not over."""
        row: tuple[bytes, bytes | None] | None = self._db.execute(
            "SELECT owner, payload FROM answers WHERE run = ? AND key = ? AND (until IS NULL OR until > ?)",
            (self._run, key, now()),
        ).fetchone()
        return row
