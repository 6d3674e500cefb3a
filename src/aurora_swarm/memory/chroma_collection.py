"""A collection on a Chroma server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

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
from aurora_swarm.memory.chroma_calls import Calls
from aurora_swarm.memory.chroma_wire import check_sendable, condition, documents_of, ranked, replacing
from aurora_swarm.memory.gathering import Gathering
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.ports.store import Document, Match, Schema, Where

_QUERIES_AT_ONCE = 64
_PUTS_AT_ONCE = 256
_SPARE = 32
"""Documents asked for beyond `k`, so that equals can be told apart by id."""


class _Put(msgspec.Struct, frozen=True):
    documents: Sequence[Document]
    vectors: Vectors


class _Asked(msgspec.Struct, frozen=True):
    vector: Vectors
    k: int
    terms: Terms
    vectors: bool


class ChromaCollection:
    """Keeps the contract of `aurora_swarm.ports.store.Collection`, with two limits.

    Chroma's index is approximate: with many documents a query may miss some of the nearest. And one call to `upsert`
    takes what the server takes in one request, some thousand documents; more are refused before anything is sent.

    Args:
        calls: How the server is asked.
        collection: The client's object.
        name: Its name.
        schema: What holds for every document.
        embedder: Turns texts into vectors.
    """

    def __init__(self, calls: Calls, collection: Any, name: str, schema: Schema, embedder: Embedder) -> None:
        self.name = name
        self.dropped = False
        self._calls = calls
        self._collection = collection
        self._schema = schema
        self._embedder = embedder
        self._puts: Gathering[_Put, None] = Gathering(self._write, most=_PUTS_AT_ONCE)
        self._queries: Gathering[_Asked, list[Match]] = Gathering(self._answer, most=_QUERIES_AT_ONCE)

    @property
    def schema(self) -> Schema:
        """What holds for every document."""
        return self._schema

    async def upsert(self, documents: Sequence[Document]) -> None:
        """Add documents; those whose id is there replace what was. All of them or none.

        Raises:
            StoreError: A document does not fit, or there are more than the server takes in one request.
            StorageError: The server does not answer.
        """
        self._refuse_use()
        check_documents(documents, self._schema.fields)
        check_sendable(documents)
        if len(documents) > self._calls.most:
            raise StoreError(
                f"{len(documents):,} documents in one call; this server takes {self._calls.most:,}",
                remedy="give them in several calls",
            )
        if documents:
            await self._puts(_Put(documents, await vectors_of(documents, self._embedder)))

    async def get(self, ids: Sequence[str], *, vectors: bool = False) -> list[Document]:
        """The documents with these ids, in their order; ids that are not there are left out."""
        self._refuse_use()
        wanted = list(dict.fromkeys(ids))
        include = ["documents", "metadatas", *(["embeddings"] if vectors else [])]
        found: dict[str, Document] = {}
        for start in range(0, len(wanted), self._calls.most):
            part = wanted[start : start + self._calls.most]
            got = await self._calls(self._collection.get(ids=part, include=include))
            found |= {document.id: document for document in documents_of(got, vectors=vectors)}
        return [found[id_] for id_ in ids if id_ in found]

    async def delete(self, ids: Sequence[str] = (), *, where: Where | None = None) -> int:
        """Delete documents by id, or all that match a filter, or of the ids those that match; returns how many.

        What another client adds or deletes meanwhile may be counted wrongly.
        """
        self._refuse_use()
        if not ids and where is None:
            return 0
        there = await self._ids(terms_of(where), list(dict.fromkeys(ids)) or None)
        for start in range(0, len(there), self._calls.most):
            await self._calls(self._collection.delete(ids=there[start : start + self._calls.most]))
        return len(there)

    async def query(
        self,
        query: str | Sequence[float],
        k: int = 10,
        *,
        where: Where | None = None,
        vectors: bool = False,
    ) -> list[Match]:
        """The `k` documents nearest to a text or a vector, nearest first; equals by id. Approximate.

        Raises:
            StoreError: The vector has another length than those of the collection, or `k` is less than 1.
            StorageError: The server does not answer.
        """
        self._refuse_use()
        checked_count(k)
        terms = terms_of(where)
        vector = (await self._embedder.embed([query]))[0] if isinstance(query, str) else unit_vector(query)
        if not all(terms.values()):
            return []
        return await self._queries(_Asked(vector, k, terms, vectors))

    async def count(self, where: Where | None = None) -> int:
        """How many documents there are, or match."""
        self._refuse_use()
        terms = terms_of(where)
        if terms:
            return len(await self._ids(terms, None))
        count: int = await self._calls(self._collection.count())
        return count

    def check_made_for(self, embedder: str, fields: Mapping[str, str] | None) -> None:
        """Raise `StoreError` where it was made by another embedder, or with other fields."""
        check_made_for(self.name, self._schema, embedder, fields)

    async def finish(self) -> None:
        """Answer what was asked, and nothing any more."""
        await self._puts.aclose()
        await self._queries.aclose()

    async def measure(self) -> None:
        """Learn the length of the vectors that are there."""
        got = await self._calls(self._collection.get(limit=1, include=["embeddings"]))
        if got["ids"]:
            self._schema = msgspec.structs.replace(self._schema, dimensions=len(got["embeddings"][0]))

    def _refuse_use(self) -> None:
        if self.dropped:
            raise StoreError(f"collection {self.name!r} was dropped", remedy="ask the store for it again")
        self._puts.refuse_closed()

    async def _ids(self, terms: Terms, ids: list[str] | None) -> list[str]:
        if not all(terms.values()):
            return []
        got = await self._calls(self._collection.get(ids=ids, where=condition(terms), include=[]))
        there: list[str] = got["ids"]
        return there

    async def _write(self, puts: list[_Put]) -> list[Exception | None]:
        """Several tasks' documents in as few requests as they fit in; one task's never in two."""
        answers: list[Exception | None] = [None] * len(puts)
        group: list[int] = []
        for place, put in enumerate(puts):
            if fault := await self._fault(put):
                answers[place] = fault
                continue
            if group and sum(len(puts[i].documents) for i in [*group, place]) > self._calls.most:
                await self._send(puts, group, answers)
                group = []
            group.append(place)
        if group:
            await self._send(puts, group, answers)
        return answers

    async def _fault(self, put: _Put) -> Exception | None:
        if self._schema.dimensions is None:
            await self.measure()
        length = put.vectors.shape[1]
        if self._schema.dimensions is None:
            self._schema = msgspec.structs.replace(self._schema, dimensions=length)
        return length_fault(length, self._schema.dimensions, f"document {put.documents[0].id!r}")

    async def _send(self, puts: Sequence[_Put], group: Sequence[int], answers: list[Exception | None]) -> None:
        # The last one of an id wins, as if they had come one after the other.
        last = {
            document.id: (document, vector)
            for place in group
            for document, vector in zip(puts[place].documents, puts[place].vectors, strict=True)
        }
        try:
            await self._upsert([document for document, _ in last.values()], [vector for _, vector in last.values()])
        except StoreError as error:
            if len(group) == 1:
                answers[group[0]] = error
                return
            for place in group:
                await self._send(puts, [place], answers)

    async def _upsert(self, documents: Sequence[Document], vectors: Sequence[Vectors]) -> None:
        ids = [document.id for document in documents]
        got = await self._calls(self._collection.get(ids=ids, include=["metadatas"]))
        there = dict(zip(got["ids"], got["metadatas"], strict=True))
        await self._calls(
            self._collection.upsert(
                ids=ids,
                embeddings=[vector.tolist() for vector in vectors],
                documents=[document.text for document in documents],
                metadatas=[replacing(document, there.get(document.id)) for document in documents],
            )
        )

    async def _answer(self, asked: list[_Asked]) -> list[list[Match] | Exception]:
        if self._schema.dimensions is None:
            await self.measure()
        answers: list[list[Match] | Exception] = [[] for _ in asked]
        alike: dict[object, list[int]] = {}
        for place, one in enumerate(asked):
            if fault := length_fault(len(one.vector), self._schema.dimensions, "the query"):
                answers[place] = fault
            else:
                alike.setdefault((one.k, frozenset(one.terms.items())), []).append(place)
        for places in alike.values():
            found = await self._nearest([asked[place] for place in places])
            for place, documents in zip(places, found, strict=True):
                one = asked[place]
                answers[place] = ranked(one.vector, documents, one.k, vectors=one.vectors)
        return answers

    async def _nearest(self, asked: Sequence[_Asked]) -> list[list[Document]]:
        got = await self._calls(
            self._collection.query(
                query_embeddings=[one.vector.tolist() for one in asked],
                n_results=asked[0].k + _SPARE,
                where=condition(asked[0].terms),
                include=["documents", "metadatas", "embeddings"],
            )
        )
        columns = ("ids", "documents", "metadatas", "embeddings")
        return [
            documents_of({column: got[column][place] for column in columns}, vectors=True)
            for place in range(len(asked))
        ]
