"""A collection of the store in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from aurora_swarm.errors import StoreError
from aurora_swarm.memory.checking import (
    Terms,
    Vectors,
    check_documents,
    check_made_for,
    checked_count,
    length_fault,
    terms_of,
    unit_vector,
    vectors_of,
)
from aurora_swarm.memory.gathering import Gathering
from aurora_swarm.memory.ranking import Found, Search, nearest
from aurora_swarm.memory.table import Snapshot, Table
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.ports.store import Document, Match, Schema, Where

_QUERIES_AT_ONCE = 128
_INLINE = 4_000_000
"""Numbers that are multiplied and added on the event loop itself: a millisecond's worth. More go to a thread."""


class Home(Protocol):
    """What a collection needs of its store."""

    embedder: Embedder

    async def put(self, collection: ExactCollection, documents: Sequence[Document], vectors: Vectors) -> None:
        """Write documents, with their vectors."""

    async def remove(self, collection: ExactCollection, ids: Sequence[str] | None, terms: Terms | None) -> int:
        """Delete documents: those of the ids, if any are given, that match the terms, if any are given."""

    async def search(self, snapshot: Snapshot, searches: Sequence[Search]) -> list[Found]:
        """Answer queries on a thread."""


class _Asked(msgspec.Struct, frozen=True):
    vector: Vectors
    k: int
    terms: Terms
    vectors: bool


class ExactCollection:
    """Keeps the contract of `aurora_swarm.ports.store.Collection`.

    Args:
        home: The store.
        key: Its number in the store's file.
        name: Its name in the store.
        schema: What holds for every document.
        table: What is in it; the store changes it, once a change is on the disk.

    Attributes:
        dropped: Set when it was deleted from its store.
    """

    def __init__(self, home: Home, key: int, name: str, schema: Schema, table: Table) -> None:
        self.name = name
        self.key = key
        self.table = table
        self.dropped = False
        self._home = home
        self._schema = schema
        self._queries: Gathering[_Asked, list[Match]] = Gathering(self._answer, most=_QUERIES_AT_ONCE)

    @property
    def schema(self) -> Schema:
        """What holds for every document."""
        return msgspec.structs.replace(self._schema, dimensions=self.table.dimensions)

    async def upsert(self, documents: Sequence[Document]) -> None:
        """Add documents; those whose id is there replace what was. All of them or none.

        Cancelling it does not take them back: they are written whole or not at all.

        Raises:
            StoreError: A document does not fit, or the collection was dropped, or the store is closed.
            StorageError: The store cannot be written.
        """
        self.refuse_use()
        check_documents(documents, self._schema.fields)
        if documents:
            vectors = await vectors_of(documents, self._home.embedder)
            kept = [Document(document.id, document.text, dict(document.metadata)) for document in documents]
            await self._home.put(self, kept, vectors)

    async def get(self, ids: Sequence[str], *, vectors: bool = False) -> list[Document]:
        """The documents with these ids, in their order; ids that are not there are left out."""
        self.refuse_use()
        return [_copy(document, vector if vectors else None) for document, vector in self.table.get(ids)]

    async def delete(self, ids: Sequence[str] = (), *, where: Where | None = None) -> int:
        """Delete documents by id, or all that match a filter, or of the ids those that match.

        Returns:
            How many there were.
        """
        self.refuse_use()
        if not ids and where is None:
            return 0
        return await self._home.remove(self, ids or None, None if where is None else terms_of(where))

    async def query(
        self,
        query: str | Sequence[float],
        k: int = 10,
        *,
        where: Where | None = None,
        vectors: bool = False,
    ) -> list[Match]:
        """The `k` documents nearest to a text or a vector, nearest first; equals by id. Exact.

        Raises:
            StoreError: The vector has another length than those of the collection, or `k` is less than 1.
        """
        self.refuse_use()
        checked_count(k)
        terms = terms_of(where)
        vector = (await self._home.embedder.embed([query]))[0] if isinstance(query, str) else unit_vector(query)
        return await self._queries(_Asked(vector, k, terms, vectors))

    async def count(self, where: Where | None = None) -> int:
        """How many documents there are, or match."""
        self.refuse_use()
        return self.table.count(terms_of(where))

    def check_made_for(self, embedder: str, fields: Mapping[str, str] | None) -> None:
        """Raise `StoreError` where it was made by another embedder, or with other fields."""
        check_made_for(self.name, self._schema, embedder, fields)

    def refuse_use(self) -> None:
        """Raise `StoreError` where it was dropped, or the store is closed."""
        if self.dropped:
            raise StoreError(f"collection {self.name!r} was dropped", remedy="ask the store for it again")
        self._queries.refuse_closed()

    async def finish(self) -> None:
        """Answer what was asked, and nothing any more."""
        await self._queries.aclose()

    async def _answer(self, asked: list[_Asked]) -> list[list[Match] | Exception]:
        table = self.table
        snapshot = table.snapshot()
        faults = [length_fault(len(one.vector), table.dimensions, "the query") for one in asked]
        searches = [
            Search(one.vector, one.k, frozenset(one.terms.items()) if one.terms else None, table.select(one.terms))
            for one, fault in zip(asked, faults, strict=True)
            if fault is None
        ]
        found = iter(await self._found(snapshot, searches))
        return [
            fault or _matches(snapshot, next(found), vectors=one.vectors)
            for one, fault in zip(asked, faults, strict=True)
        ]

    async def _found(self, snapshot: Snapshot, searches: Sequence[Search]) -> list[Found]:
        if not len(snapshot.alive):
            return [[] for _ in searches]
        if snapshot.vectors.size * len(searches) <= _INLINE:
            return nearest(snapshot, searches)
        return await self._home.search(snapshot, searches)


def _matches(snapshot: Snapshot, found: Found, *, vectors: bool) -> list[Match]:
    return [
        Match(_copy(snapshot.documents[row], snapshot.vectors[row] if vectors else None), similarity)
        for row, similarity in found
    ]


def _copy(document: Document, vector: Vectors | None) -> Document:
    """A document that its reader may do anything to."""
    numbers = None if vector is None else tuple(np.asarray(vector, dtype=np.float64).tolist())
    return Document(document.id, document.text, dict(document.metadata), numbers)
