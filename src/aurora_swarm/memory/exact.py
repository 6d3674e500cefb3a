"""The store in this process: exact search in memory, and a file behind it where it is to last.

All that changes something goes through one queue: many tasks' changes become one transaction, then one addition to the
tables, and only then is anybody told. So what was acknowledged is on the disk, and in what is searched. All queries
of a collection that come while others are being answered become one product of matrices.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar, TypeVarTuple

from aurora_swarm.errors import AuroraSwarmError, StorageError, StoreError
from aurora_swarm.memory.changes import Change, Drops, Kept
from aurora_swarm.memory.checking import Terms, Vectors, checked_fields, checked_name
from aurora_swarm.memory.exact_collection import ExactCollection
from aurora_swarm.memory.gathering import Gathering
from aurora_swarm.memory.orders import Drop, Edit, Make, Order, Plan, Put, Remove, runs
from aurora_swarm.memory.ranking import Found, Search, nearest
from aurora_swarm.memory.sqlite_file import StoreFile
from aurora_swarm.memory.table import Snapshot, Table
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.ports.store import Collection, Document, Schema

_ORDERS_AT_ONCE = 2_048

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_Done = ExactCollection | int | None
_Loaded = list[tuple[Kept, list[Document], Vectors]]


class ExactStore:
    """Keeps the contract of `aurora_swarm.ports.store.VectorStore`; made by `open`.

    After a write has failed, every later one fails at once, because what the disk holds is not known any more; what
    was acknowledged can still be read.

    Args:
        embedder: Turns texts into vectors.
        owns_embedder: Whether closing closes the embedder, too.
    """

    def __init__(self, embedder: Embedder, *, owns_embedder: bool = False) -> None:
        self.embedder = embedder
        self._owns_embedder = owns_embedder
        self._file: StoreFile | None = None
        self._collections: dict[str, ExactCollection] = {}
        self._next_key = 1
        self._failure: Exception | None = None
        self._orders: Gathering[Order, _Done] = Gathering(self._carry_out, most=_ORDERS_AT_ONCE)
        # A thread each, started when it is first needed: no write waits for a search.
        self._writing = ThreadPoolExecutor(1, "aurora-swarm-store")
        self._searching = ThreadPoolExecutor(1, "aurora-swarm-search")
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path | None, embedder: Embedder, *, owns_embedder: bool = False) -> Self:
        """Open the store in a file, or one that lasts as long as this process.

        When cancelled, it lets go of the file before it returns.

        Args:
            path: The file; created when nothing is there. None for no file.
            embedder: Turns texts into vectors.
            owns_embedder: Whether closing closes the embedder, too.

        Raises:
            StoreHeldError: Another process holds it; the holder is named.
            StoreError: The place cannot hold a store, or something else is there.
            StorageError: It could not be read or written.
        """
        store = cls(embedder, owns_embedder=owns_embedder)
        if path is None:
            return store
        opening = asyncio.get_running_loop().create_task(store._open(path))
        try:
            await asyncio.shield(opening)
        except BaseException:
            await asyncio.wait([opening])
            await store.aclose()
            raise
        return store

    async def collection(self, name: str, *, fields: Mapping[str, str] | None = None) -> Collection:
        """The collection of that name, made when it is not there; the same object each time.

        Raises:
            StoreError: It was made by another embedder, or with other fields; or the name is none.
        """
        wanted = None if fields is None else checked_fields(fields)
        there = self._collections.get(checked_name(name))
        if there is None:
            made = await self._orders(Make(name, wanted))
            assert isinstance(made, ExactCollection)
            return made
        self._orders.refuse_closed()
        there.check_made_for(self.embedder.name, wanted)
        return there

    async def collections(self) -> list[str]:
        """Names, sorted."""
        self._orders.refuse_closed()
        return sorted(self._collections)

    async def drop(self, name: str) -> None:
        """Delete a collection and all that is in it; nothing happens where there is none."""
        await self._orders(Drop(name))

    async def aclose(self) -> None:
        """Make everything durable and release what the store holds. May be called twice; goes on when cancelled."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def put(self, collection: ExactCollection, documents: Sequence[Document], vectors: Vectors) -> None:
        """Write documents of one of its collections, with their vectors."""
        await self._orders(Put(collection, documents, vectors))

    async def remove(self, collection: ExactCollection, ids: Sequence[str] | None, terms: Terms | None) -> int:
        """Delete documents of one of its collections."""
        gone = await self._orders(Remove(collection, ids, terms))
        assert isinstance(gone, int)
        return gone

    async def search(self, snapshot: Snapshot, searches: Sequence[Search]) -> list[Found]:
        """Answer queries on a thread."""
        return await _on(self._searching, nearest, snapshot, searches)

    async def _open(self, path: Path) -> None:
        self._file, loaded = await _on(self._writing, _read, path)
        for kept, documents, vectors in loaded:
            made = self._register(kept)
            made.table.put(documents, vectors)

    async def _close(self) -> None:
        await self._orders.aclose()
        for collection in self._collections.values():
            await collection.finish()
        if self._file is not None:
            await _on(self._writing, self._file.close)
        self._writing.shutdown(wait=False)
        self._searching.shutdown(wait=False)
        if self._owns_embedder:
            await self.embedder.aclose()

    async def _carry_out(self, orders: list[Order]) -> list[_Done | Exception]:
        done: list[_Done | Exception] = []
        for run in runs(orders):
            match run:
                case [Make() as order]:
                    done.append(await self._make(order))
                case [Drop(name)]:
                    done.append(await self._drop(name))
                case _:
                    done += await self._edit([order for order in run if isinstance(order, Put | Remove)])
        return done

    async def _make(self, order: Make) -> ExactCollection | Exception:
        there = self._collections.get(order.name)
        try:
            if there is not None:
                there.check_made_for(self.embedder.name, order.fields)
                return there
            kept = Kept(self._next_key, order.name, self.embedder.name, order.fields or {})
            await self._write([kept])
        except AuroraSwarmError as error:
            return error
        return self._register(kept)

    async def _drop(self, name: str) -> Exception | None:
        collection = self._collections.get(name)
        if collection is None:
            return None
        try:
            await self._write([Drops(collection.key)])
        except AuroraSwarmError as error:
            return error
        collection.dropped = True
        del self._collections[name]
        await collection.finish()
        return None

    async def _edit(self, edits: Sequence[Edit]) -> list[_Done | Exception]:
        plan = Plan()
        refused: dict[int, Exception] = {}
        for place, edit in enumerate(edits):
            try:
                plan.add(edit)
            except StoreError as error:
                refused[place] = error
        try:
            await self._write(plan.changes)
        except AuroraSwarmError as error:
            return [refused.get(place) or copy.copy(error) for place in range(len(edits))]
        return [refused.get(place) or plan.done(edit) for place, edit in enumerate(edits)]

    async def _write(self, changes: Sequence[Change]) -> None:
        if self._failure is not None:
            raise copy.copy(self._failure)
        if self._file is None or not changes:
            return
        try:
            await _on(self._writing, self._file.write, changes)
        except Exception as error:
            self._failure = error if isinstance(error, AuroraSwarmError) else StorageError(repr(error))
            raise copy.copy(self._failure) from error

    def _register(self, kept: Kept) -> ExactCollection:
        self._next_key = max(self._next_key, kept.key + 1)
        made = ExactCollection(
            self, kept.key, kept.name, Schema(None, kept.embedder, kept.fields), Table(kept.dimensions)
        )
        self._collections[kept.name] = made
        return made


def _read(path: Path) -> tuple[StoreFile, _Loaded]:
    file = StoreFile(path)
    try:
        return file, list(file.load())
    except BaseException:
        file.close()
        raise


async def _on(thread: ThreadPoolExecutor, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
    return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)
