"""The thread that owns a journal's file, and wakes those who wait in bulk.

It takes everything that has been asked since its last look, answers all questions with few queries, writes all records
in one transaction, and settles all futures with one call to the event loop. While it waits for the disk the next group
gathers: the disk's latency sets the size of a group, never the throughput.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sqlite3
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import msgspec

from aurora_swarm.errors import StorageError
from aurora_swarm.journal.schema import Row
from aurora_swarm.journal.store import RecordStore

_Settled = tuple["asyncio.Future[Any]", object]


class Find(msgspec.Struct, frozen=True):
    """Asks for the payloads of keys; answered with a dict."""

    future: asyncio.Future[dict[bytes, bytes]]
    keys: list[bytes]


class Append(msgspec.Struct, frozen=True):
    """Asks for rows to be made durable; answered with None."""

    future: asyncio.Future[None]
    rows: list[Row]


class Writer:
    """Opens a store in a thread of its own and serves it until `close`.

    Args:
        path: The journal.
        loop: Where the futures live.

    Attributes:
        opened: Done with the store when it is open, or failed.
        ended: Done when the store is closed and the thread about to end; never fails.
        failure: The first write that failed. None is tried after it, because what the disk holds is not known any more.
    """

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[RecordStore] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.failure: StorageError | None = None
        self._loop = loop
        self._requests: SimpleQueue[Find | Append | None] = SimpleQueue()
        # A daemon, so that a process that forgets to close its journal ends all the same.
        threading.Thread(target=self._run, args=(path,), name=f"journal {path.name}", daemon=True).start()

    def ask(self, request: Find | Append) -> None:
        """Queue a request; its future is settled on the event loop."""
        self._requests.put(request)

    def close(self) -> None:
        """Let everything that was asked before be done, then end."""
        self._requests.put(None)

    def _run(self, path: Path) -> None:
        try:
            store = RecordStore(path)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the task that waits must hear of it
            self._settle([(self.opened, error), (self.ended, None)])
            return
        self._settle([(self.opened, store)])
        try:
            while self._serve(store, self._taken()):
                pass
            # What was acknowledged is on the disk, whatever closing says.
            with contextlib.suppress(sqlite3.Error, OSError):
                store.close()
        finally:
            self._settle([(self.ended, None)])

    def _taken(self) -> list[Find | Append | None]:
        """All that is queued; waits until something is."""
        taken = [self._requests.get()]
        with contextlib.suppress(Empty):
            while True:
                taken.append(self._requests.get_nowait())
        return taken

    def _serve(self, store: RecordStore, requests: list[Find | Append | None]) -> bool:
        """Do everything that was asked; returns whether more may come."""
        finds = [r for r in requests if isinstance(r, Find)]
        appends = [r for r in requests if isinstance(r, Append)]
        # Reading first: it is soon done, and whoever waits for the disk waits anyway.
        self._settle(self._found(store, finds))
        self._settle(self._appended(store, appends))
        return None not in requests

    def _found(self, store: RecordStore, finds: list[Find]) -> list[_Settled]:
        try:
            found = store.find({key for find in finds for key in find.keys})
            return [(f.future, {key: found[key] for key in f.keys if key in found}) for f in finds]
        except Exception as error:  # noqa: BLE001 - handed to the tasks that wait
            return [(find.future, copy.copy(error)) for find in finds]

    def _appended(self, store: RecordStore, appends: list[Append]) -> list[_Settled]:
        try:
            if appends and self.failure is None:
                store.append([row for append in appends for row in append.rows])
        except Exception as error:  # noqa: BLE001 - handed to the tasks that wait
            self.failure = error if isinstance(error, StorageError) else StorageError(repr(error), path=str(store.path))
        return [(append.future, copy.copy(self.failure)) for append in appends]

    def _settle(self, settled: list[_Settled]) -> None:
        if settled:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_wake, settled)


def _wake(settled: list[_Settled]) -> None:
    for future, result in settled:
        if future.done():
            continue  # cancelled
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)
