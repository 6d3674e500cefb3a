"""One run in a file that several processes share: jobs, shards, turns, results. Blocking; belongs to one thread."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from aurora_swarm.errors import FencedError, UsageError
from aurora_swarm.journal.sqlite_shards_schema import now, open_file, patiently
from aurora_swarm.journal.sqlite_shards_shared import SharedTables
from aurora_swarm.values.shard import (
    Batch,
    Claim,
    Job,
    Output,
    Result,
    RunPlan,
    ShardProgress,
    Turn,
    Unfinished,
    shard_of,
)

_JOBS_READ_AT_A_TIME = 200


class ShardFile:
    """One run. What writes must be called between `begin` and `commit`.

    Args:
        path: The file; symbolic links are followed.
        run: The run's id.
        plan: Makes the run where it does not exist.
        patience_s: Seconds to wait for other processes that write.

    Attributes:
        plan: What the run was made with.
        shared: Shares and answers.

    Raises:
        UsageError: There is no such run, and no plan to make it; or the place cannot hold one.
        OSError: The system does not let us.
        sqlite3.Error: The file cannot be read or written.
    """

    def __init__(self, path: Path, run: str, plan: RunPlan | None, patience_s: float) -> None:
        self.path = Path(os.path.realpath(path))
        if plan is None and not self.path.exists():
            raise _unknown(self.path, run)
        self._patience_s = patience_s
        self._db = open_file(self.path, patience_s)
        try:
            self._run, self.plan = self._entered(encoded(run), plan) or _refuse_unknown(self.path, run)
        except BaseException:
            self._db.close()
            raise
        self.shared = SharedTables(self._db, self._run, self.plan.lease_s)

    def close(self) -> None:
        """Let go of the file; the last process to do so folds the write-ahead log into it."""
        self._db.close()

    def begin(self, *, write: bool) -> None:
        """Begin a transaction; one that writes waits for other processes that do.

        Raises:
            sqlite3.OperationalError: Others were in the way for all of the patience.
        """
        patiently(self._patience_s, lambda: self._begin(write=write))

    def commit(self) -> None:
        """Make all of the transaction durable."""
        patiently(self._patience_s, lambda: self._db.execute("COMMIT").close())

    def rollback(self) -> None:
        """Take all of the transaction back, unless SQLite has done so."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK").close()

    def version(self) -> int:
        """Another number once another process has written; nearly free."""
        number: int = patiently(self._patience_s, lambda: self._db.execute("PRAGMA data_version").fetchone()[0])
        return number

    # -- jobs --------------------------------------------------------------------------------------------------

    def admit(self, jobs: Sequence[Job]) -> int:
        """Put jobs in; returns how many were new."""
        new: Counter[int] = Counter()
        sql = "INSERT INTO jobs (run, shard, place, key, payload) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        for job in jobs:
            shard = shard_of(job.key, self.plan.shards)
            row = (self._run, shard, job.index, encoded(job.key), job.payload)
            new[shard] += self._db.execute(sql, row).rowcount
        self._db.executemany(
            "UPDATE shards SET unfinished = unfinished + ? WHERE run = ? AND shard = ?",
            [(count, self._run, shard) for shard, count in new.items()],
        )
        self._db.execute("UPDATE runs SET admitted = admitted + ? WHERE id = ?", (new.total(), self._run))
        return new.total()

    def open_admission(self) -> None:
        """Jobs are to come, also where all were in before."""
        self._db.execute("UPDATE runs SET whole = 0 WHERE id = ?", (self._run,))

    def close_admission(self) -> None:
        """All jobs are in."""
        self._db.execute("UPDATE runs SET whole = 1 WHERE id = ?", (self._run,))

    def progress(self) -> ShardProgress:
        """The run at this moment."""
        row = self._db.execute("SELECT admitted, finished, whole FROM runs WHERE id = ?", (self._run,)).fetchone()
        owned = self._db.execute(
            "SELECT owner, count(*) FROM shards WHERE run = ? AND until > ? GROUP BY owner", (self._run, now())
        )
        return ShardProgress(row[0], row[1], bool(row[2]), {decoded(owner): count for owner, count in owned})

    def outputs(self, after: int, limit: int) -> list[Output]:
        """What came after a result's number; numbers grow in the order of the commits, since one writes at a time."""
        rows = self._db.execute(
            "SELECT r.id, j.place, j.key, r.payload FROM results r JOIN jobs j ON j.id = r.job"
            " WHERE r.run = ? AND r.id > ? ORDER BY r.id LIMIT ?",
            (self._run, after, limit),
        )
        return [Output(str(number), place, Result(decoded(key), payload)) for number, place, key, payload in rows]

    # -- shards ------------------------------------------------------------------------------------------------

    def claim(self, shard: int, owner: str, *, force: bool = False) -> Claim | None:
        """Take a shard; what its last owner had begun counts as an attempt unless it gave the shard back."""
        if not 0 <= shard < self.plan.shards:
            raise UsageError(f"there is no shard {shard} in a run of {self.plan.shards}", remedy="claim one of its own")
        epoch, holder, until = self._db.execute(
            "SELECT epoch, owner, until FROM shards WHERE run = ? AND shard = ?", (self._run, shard)
        ).fetchone()
        if until > now() and not force and holder != encoded(owner):
            return None
        self._db.execute(
            "UPDATE jobs SET begun = 0, attempts = attempts + 1 WHERE run = ? AND shard = ? AND begun = 1 AND done = 0",
            (self._run, shard),
        )
        self._db.execute(
            "UPDATE shards SET epoch = ?, owner = ?, until = ? WHERE run = ? AND shard = ?",
            (epoch + 1, encoded(owner), now() + self.plan.lease_s, self._run, shard),
        )
        return Claim(shard, epoch + 1, owner)

    def claimable(self) -> int | None:
        """A shard with work that nobody owns; one that an owner lost comes before those that nobody had yet."""
        row = self._db.execute(
            "SELECT shard FROM shards WHERE run = ? AND unfinished > 0 AND until <= ? ORDER BY until DESC LIMIT 1",
            (self._run, now()),
        ).fetchone()
        return None if row is None else int(row[0])

    def claim_any(self, owner: str) -> Claim | None:
        """Take a shard with work that nobody owns."""
        shard = self.claimable()
        return None if shard is None else self.claim(shard, owner)

    def release(self, claim: Claim) -> None:
        """Give a shard back, and with it the attempts that it began."""
        given = self._db.execute(
            "UPDATE shards SET epoch = epoch + 1, owner = x'', until = 0 WHERE run = ? AND shard = ? AND epoch = ?",
            (self._run, claim.shard, claim.epoch),
        )
        if given.rowcount:
            self._db.execute(
                "UPDATE jobs SET begun = 0 WHERE run = ? AND shard = ? AND begun = 1 AND done = 0",
                (self._run, claim.shard),
            )

    def load(self, claim: Claim, limit: int, skip: Collection[str]) -> list[Unfinished]:
        """Unfinished jobs in order of admission, each with its turns up to the first gap."""
        self._refuse_fenced(claim)
        skipped = {encoded(key) for key in skip}
        rows = self._db.execute(
            "SELECT id, key, place, payload, attempts FROM jobs WHERE run = ? AND shard = ? AND done = 0 ORDER BY id",
            (self._run, claim.shard),
        )
        found: list[Unfinished] = []
        while len(found) < limit and (some := rows.fetchmany(min(limit, _JOBS_READ_AT_A_TIME))):
            for number, key, place, payload, attempts in some:
                if key not in skipped and len(found) < limit:
                    found.append(Unfinished(Job(decoded(key), place, payload), self._turns(number), attempts))
        return found

    def apply(self, claim: Claim, batch: Batch) -> None:
        """Renew the lease and write a batch. Raises before it writes anything."""
        self._refuse_fenced(claim)
        rows = self._rows(claim, batch)
        self._db.execute(
            "UPDATE shards SET until = ? WHERE run = ? AND shard = ?",
            (now() + self.plan.lease_s, self._run, claim.shard),
        )
        self._write_results(claim.shard, batch.results, rows)
        self._write_turns(batch.turns, rows)
        begun = [(number,) for key in batch.begun if (number := rows[key]) is not None]
        self._db.executemany("UPDATE jobs SET begun = 1 WHERE id = ?", begun)

    def _write_results(self, shard: int, results: Sequence[Result], rows: dict[str, int | None]) -> None:
        ended = 0
        for result in results:
            number, rows[result.job] = rows[result.job], None
            if number is None:
                continue
            ended += 1
            sql = "INSERT INTO results (run, job, payload) VALUES (?, ?, ?)"
            self._db.execute(sql, (self._run, number, result.payload))
            self._db.execute("UPDATE jobs SET done = 1 WHERE id = ?", (number,))
            self._db.execute("DELETE FROM turns WHERE job = ?", (number,))
        if ended:
            sql = "UPDATE shards SET unfinished = unfinished - ? WHERE run = ? AND shard = ?"
            self._db.execute(sql, (ended, self._run, shard))
            self._db.execute("UPDATE runs SET finished = finished + ? WHERE id = ?", (ended, self._run))

    def _write_turns(self, turns: Sequence[Turn], rows: dict[str, int | None]) -> None:
        new = [(n, turn.version, turn.payload) for turn in turns if (n := rows[turn.job]) is not None]
        self._db.executemany(
            "INSERT INTO turns (job, version, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            new,
        )

    def _rows(self, claim: Claim, batch: Batch) -> dict[str, int | None]:
        """The numbers of a batch's jobs; None for one that has a result."""
        keys = {*batch.begun, *(turn.job for turn in batch.turns), *(result.job for result in batch.results)}
        rows: dict[str, int | None] = {}
        for key in keys:
            row = self._db.execute(
                "SELECT id, shard, done FROM jobs WHERE run = ? AND key = ?", (self._run, encoded(key))
            ).fetchone()
            if row is None or row[1] != claim.shard:
                raise UsageError(f"{key!a} is no job of shard {claim.shard}", remedy="write only what was loaded")
            rows[key] = None if row[2] else row[0]
        return rows

    def _turns(self, number: int) -> tuple[bytes, ...]:
        turns: list[bytes] = []
        for version, payload in self._db.execute(
            "SELECT version, payload FROM turns WHERE job = ? ORDER BY version", (number,)
        ):
            if version != len(turns):
                break
            turns.append(payload)
        return tuple(turns)

    def _refuse_fenced(self, claim: Claim) -> None:
        row = self._db.execute(
            "SELECT epoch, owner FROM shards WHERE run = ? AND shard = ?", (self._run, claim.shard)
        ).fetchone()
        if row is None or row[0] != claim.epoch:
            by = f"{decoded(row[1])} has it" if row and row[1] else "it was given back"
            raise FencedError(
                f"shard {claim.shard} is not {claim.owner}'s any more: {by}",
                remedy="stop what runs for this shard; its new owner goes on from what was written",
            )

    def _begin(self, *, write: bool) -> None:
        self._db.execute("BEGIN IMMEDIATE" if write else "BEGIN").close()
        try:
            # It is the first look that finds others in the way of who only reads: when they open or close the file.
            self._db.execute("SELECT id FROM clock").fetchall()
        except BaseException:
            self.rollback()
            raise

    def _entered(self, name: bytes, plan: RunPlan | None) -> tuple[int, RunPlan] | None:
        self.begin(write=plan is not None)
        try:
            found = self._find_run(name)
            if found is None and plan is not None:
                self._db.execute("INSERT INTO runs (name, plan) VALUES (?, ?)", (name, msgspec.msgpack.encode(plan)))
                found = self._find_run(name)
                assert found is not None
                rows = [(found[0], shard) for shard in range(plan.shards)]
                self._db.executemany("INSERT INTO shards (run, shard) VALUES (?, ?)", rows)
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return found

    def _find_run(self, name: bytes) -> tuple[int, RunPlan] | None:
        row = self._db.execute("SELECT id, plan FROM runs WHERE name = ?", (name,)).fetchone()
        return None if row is None else (row[0], msgspec.msgpack.decode(row[1], type=RunPlan))


def encoded(text: str) -> bytes:
    """Any text, as it is kept: also one that holds half a character, which is no UTF-8."""
    return text.encode("utf-8", "surrogatepass")


def decoded(kept: bytes) -> str:
    """The text that `encoded` was given."""
    return kept.decode("utf-8", "surrogatepass")


def _unknown(path: Path, run: str) -> UsageError:
    return UsageError(f"{path}: there is no run {run!r}", remedy="check the run's id and the path, or begin the run")


def _refuse_unknown(path: Path, run: str) -> tuple[int, RunPlan]:
    raise _unknown(path, run)
