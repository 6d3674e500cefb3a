"""The thread that owns a process's connection to a shared file, and wakes those who wait in bulk.

It takes everything that has been asked since its last look, answers all questions in one read, does all writes in one
transaction, and settles all futures with one call to the event loop. While it waits for the disk, or for the other
processes, the next group gathers. Whoever waits for what another process writes is looked after between the groups:
the file says cheaply whether anybody wrote, and is asked after 2 ms, then at growing pauses of at most 50 ms; while
nobody waits it is not asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from aurora_swarm.errors import AuroraSwarmError, StorageError
from aurora_swarm.journal.refusals import refused, unopened, unwritten
from aurora_swarm.journal.sqlite_shards_file import ShardFile
from aurora_swarm.journal.sqlite_shards_schema import now
from aurora_swarm.values.shard import RunPlan

_Settled = tuple["asyncio.Future[Any]", object]

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.05
_LOOK_ANYWAY_S = 0.25
"""A lease that ends is written by nobody."""


class Request(msgspec.Struct, frozen=True):
    """Something to be done with the file.

    Args:
        future: Settled on the event loop.
        do: What; it raises before it writes anything, or writes all of it.
        writes: Whether it writes.
    """

    future: asyncio.Future[Any]
    do: Callable[[ShardFile], Any]
    writes: bool


class Wait(msgspec.Struct, frozen=True):
    """Something that is looked for until it is there.

    Args:
        future: Settled on the event loop.
        look: Returns whether waiting is over, and with what.
        until: When it ends in any case, on the clock of the file; with what was seen last.
    """

    future: asyncio.Future[Any]
    look: Callable[[ShardFile], tuple[bool, Any]]
    until: float


class ShardThread:
    """Opens a file in a thread of its own and serves it until `close`.

    Args:
        path: The file.
        run: The run's id.
        plan: Makes the run where it does not exist.
        patience_s: Seconds to wait for other processes that write.
        loop: Where the futures live.

    Attributes:
        opened: Done with the run's plan when the file is open, or failed.
        ended: Done when the file is closed and the thread about to end; never fails.
        failure: The first write that failed. None is tried after it, because what the disk holds is not known any more.
        calls: Key and owner of the calls that this process makes; kept from other processes until they have ended.
    """

    def __init__(
        self, path: Path, run: str, plan: RunPlan | None, patience_s: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.opened: asyncio.Future[RunPlan] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.failure: StorageError | None = None
        self.calls: dict[bytes, bytes] = {}
        self._loop = loop
        self._path = path
        self._requests: SimpleQueue[Request | Wait | None] = SimpleQueue()
        self._waits: list[Wait] = []
        self._pause_s = _FIRST_PAUSE_S
        self._seen = self._looked = self._renewed = -1.0
        # A daemon, so that a process that forgets to close its store ends all the same.
        threading.Thread(
            target=self._run, args=(run, plan, patience_s), name=f"shards {path.name}", daemon=True
        ).start()

    def ask(self, request: Request | Wait) -> None:
        """Queue a request; its future is settled on the event loop."""
        self._requests.put(request)

    def close(self) -> None:
        """Let everything that was asked before be done, then end; nobody is waited for any more."""
        self._requests.put(None)

    # -- on the thread -----------------------------------------------------------------------------------------

    def _run(self, run: str, plan: RunPlan | None, patience_s: float) -> None:
        try:
            file = _opened(self._path, run, plan, patience_s)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the task that waits must hear of it
            self._settle([(self.opened, error), (self.ended, None)])
            return
        self._settle([(self.opened, file.plan)])
        try:
            while self._serve(file, self._taken(file.plan.lease_s)):
                pass
            self._let_go(file)
        finally:
            self._settle([(self.ended, None)])

    def _taken(self, lease_s: float) -> list[Request | Wait | None]:
        """All that is queued; waits until something is, or it is time to look."""
        taken: list[Request | Wait | None] = []
        timeout_s = self._pause_s if self._waits else lease_s / 4 if self.calls else None
        with contextlib.suppress(Empty):
            taken.append(self._requests.get(timeout=timeout_s))
            while True:
                taken.append(self._requests.get_nowait())
        return taken

    def _serve(self, file: ShardFile, asked: list[Request | Wait | None]) -> bool:
        """Do everything that was asked; returns whether more may come."""
        requests = [each for each in asked if isinstance(each, Request) and not each.future.cancelled()]
        if renewal := self._renewal(file.plan.lease_s):
            requests.append(renewal)
        # Reading first: it is soon done, and whoever waits for the disk waits anyway.
        self._settle(self._done(file, [each for each in requests if not each.writes]))
        writes = [each for each in requests if each.writes]
        self._settle(self._done(file, writes) if writes else [])
        new = [each for each in asked if isinstance(each, Wait)]
        self._waits += new
        self._settle(self._looked_for(file, anyway=bool(new or writes)))
        return None not in asked

    def _renewal(self, lease_s: float) -> Request | None:
        """Keeps the calls that this process makes; due four times within a lease."""
        if not self.calls or now() < self._renewed + lease_s / 4:
            return None
        self._renewed = now()
        calls = tuple(self.calls.items())

        def renew(file: ShardFile) -> None:
            for key, owner in calls:
                file.shared.renew(key, owner)

        return Request(self.ended, renew, writes=True)

    def _done(self, file: ShardFile, requests: list[Request]) -> list[_Settled]:
        """Do a group in one transaction; where that fails, nobody's part of it was done."""
        if not requests:
            return []
        write = requests[0].writes
        if write and self.failure is not None:
            return [(each.future, copy.copy(self.failure)) for each in requests if each.future is not self.ended]
        try:
            settled = self._in_transaction(file, requests, write=write)
        except Exception as error:  # noqa: BLE001 - handed to the tasks that wait
            if _is_the_askers(error) and len(requests) > 1:
                return [settled for each in requests for settled in self._done(file, [each])]
            failure = _failed(file.path, error)
            if write and not _is_busy(error) and not _is_the_askers(error):
                self.failure = failure
            settled = [(each.future, copy.copy(failure)) for each in requests]
        return [each for each in settled if each[0] is not self.ended]

    def _in_transaction(self, file: ShardFile, requests: list[Request], *, write: bool) -> list[_Settled]:
        file.begin(write=write)
        try:
            settled = [(each.future, _outcome(file, each.do)) for each in requests]
            file.commit()
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                file.rollback()
            raise
        return settled

    def _looked_for(self, file: ShardFile, *, anyway: bool) -> list[_Settled]:
        """Look after those who wait, if anybody wrote or it is time."""
        self._waits = [each for each in self._waits if not each.future.cancelled()]
        if not self._waits:
            return []
        over = min(each.until for each in self._waits) <= now()
        if not (anyway or over or self._changed(file) or now() >= self._looked + _LOOK_ANYWAY_S):
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            return []
        self._looked = now()
        requests = [Request(each.future, each.look, writes=False) for each in self._waits]
        settled: list[_Settled] = []
        still: list[Wait] = []
        for wait, (future, outcome) in zip(self._waits, self._done(file, requests), strict=True):
            ended, value = outcome if isinstance(outcome, tuple) else (True, outcome)
            if ended or wait.until <= now():
                settled.append((future, value))
            else:
                still.append(wait)
        self._waits = still
        return settled

    def _changed(self, file: ShardFile) -> bool:
        """Whether another process wrote since the last look."""
        try:
            version = file.version()
        except sqlite3.Error:
            return True  # whoever looks will hear of it
        changed, self._seen = version != self._seen, version
        if changed:
            self._pause_s = _FIRST_PAUSE_S
        return changed

    def _let_go(self, file: ShardFile) -> None:
        """Free the calls that this process did not end, and close. What was acknowledged is on the disk anyway."""
        calls = tuple(self.calls.items())
        if calls:
            self.calls.clear()
            give_up = [Request(self.ended, _giving_up(*call), writes=True) for call in calls]
            self._done(file, give_up)
        closed = StorageError("the store is closed", path=str(file.path))
        self._settle([(each.future, copy.copy(closed)) for each in self._waits])
        with contextlib.suppress(sqlite3.Error):
            file.close()

    def _settle(self, settled: list[_Settled]) -> None:
        if settled:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_wake, settled)


def _opened(path: Path, run: str, plan: RunPlan | None, patience_s: float) -> ShardFile:
    try:
        return ShardFile(path, run, plan, patience_s)
    except OSError as error:
        raise refused(path, error) from error
    except sqlite3.Error as error:
        raise unopened(path, error) from error


def _outcome(file: ShardFile, do: Callable[[ShardFile], Any]) -> object:
    try:
        return do(file)
    except AuroraSwarmError as error:
        return error


def _giving_up(key: bytes, owner: bytes) -> Callable[[ShardFile], None]:
    return lambda file: file.shared.end(key, owner, None, None)


def _failed(path: Path, error: Exception) -> StorageError:
    if _is_busy(error):
        return StorageError(
            "other processes kept it from being written for too long",
            path=str(path),
            remedy="look for a process that was stopped while it wrote; end it or let it go on, then run again",
        )
    if _is_the_askers(error):
        return StorageError(f"it cannot be kept: {error}", path=str(path), remedy="keep large payloads in files")
    return unwritten(path, error)


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _is_the_askers(error: Exception) -> bool:
    """Whether what was asked is at fault, such as a number or a payload too large for the file, and not the file."""
    of_values = sqlite3.DataError | sqlite3.InterfaceError | sqlite3.ProgrammingError
    return not isinstance(error, sqlite3.Error) or isinstance(error, of_values)


def _wake(settled: list[_Settled]) -> None:
    for future, result in settled:
        if future.done():
            continue  # cancelled
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
