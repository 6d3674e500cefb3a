"""The seam to what agents share: texts with vectors, found by their meaning."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from aurora_swarm.ports.embedder import Embedder

Scalar = str | int | float | bool
Where = Mapping[str, Scalar | Several[Scalar]]
"""A filter: every field must equal its value, or be one of its values. A document that lacks a field does not match.

``1`` equals ``1.0``; ``True`` equals neither.
"""


class Document(msgspec.Struct, frozen=True):
    """What is kept under one id.

    Args:
        id: Unique within its collection.
        text: What was embedded, or stands for the vector that was given.
        metadata: What filters go by.
        vector: Of length 1, as which any other is kept; None where it was not asked for.
    """

    id: str
    text: str
    metadata: Mapping[str, Scalar] = {}
    vector: tuple[float, ...] | None = None


class Match(msgspec.Struct, frozen=True):
    """A document that was found.

    Args:
        document: What was found.
        similarity: Cosine of the angle between its vector and the query's, -1 to 1.
    """

    document: Document
    similarity: float


class Schema(msgspec.Struct, frozen=True):
    """What holds for every document of a collection.

    Args:
        dimensions: Length of its vectors; None until the first one came.
        embedder: Name of the embedder; vectors of another one are refused.
        fields: Metadata that documents must have, by name: ``str``, ``int``, ``float`` or ``bool``. Further metadata is
            allowed. Empty for no rule.
    """

    dimensions: int | None = None
    embedder: str = ""
    fields: Mapping[str, str] = {}


class Collection(Protocol):
    """Documents that are searched together. Every call sees what was acknowledged before it began.

    Attributes:
        name: Its name in the store.
    """

    name: str

    @property
    def schema(self) -> Schema:
        """What holds for every document."""

    async def upsert(self, documents: Sequence[Document]) -> None:
        """Add documents; those whose id is there replace what was. All of them or none.

        A document without a vector is embedded. Once this returns, what was written survives a kill where the store
        is durable, and the next query sees it.

        Raises:
            StoreError: A document does not fit the schema (length of the vector, missing or wrong metadata, an id
                twice in one call); it is named. Nothing was written.
            StorageError: The store cannot be written.
        """

    async def get(self, ids: Sequence[str], *, vectors: bool = False) -> list[Document]:
        """The documents with these ids, in their order; ids that are not there are left out.

        Args:
            ids: Which.
            vectors: Whether their vectors are wanted.
        """

    async def delete(self, ids: Sequence[str] = (), *, where: Where | None = None) -> int:
        """Delete documents by id, or all that match a filter; with both, those of the ids that match.

        Returns:
            How many there were.
        """

    async def query(
        self,
        query: str | Sequence[float],
        k: int = 10,
        *,
        where: Where | None = None,
        vectors: bool = False,
    ) -> list[Match]:
        """The `k` documents nearest to a text or a vector, nearest first; equals by id.

        Args:
            query: A text, which is embedded, or a vector.
            k: How many at most; at least 1.
            where: Only documents that match.
            vectors: Whether their vectors are wanted.

        Raises:
            StoreError: The vector has another length than those of the collection.
        """

    async def count(self, where: Where | None = None) -> int:
        """How many documents there are, or match."""


class VectorStore(Protocol):
    """Collections by name. Belongs to one event loop; any number of tasks may use it at once."""

    embedder: Embedder

    async def collection(self, name: str, *, fields: Mapping[str, str] | None = None) -> Collection:
        """The collection of that name, made when it is not there; the same object each time.

        Args:
            name: Letters, digits, ``_``, ``-`` and ``.``, 3 to 63 of them.
            fields: Metadata that its documents must have; None to take it as it is.

        Raises:
            StoreError: It was made by another embedder, or with other fields.
        """

    async def collections(self) -> list[str]:
        """Names, sorted."""

    async def drop(self, name: str) -> None:
        """Delete a collection and all that is in it; nothing happens where there is none."""

    async def aclose(self) -> None:
        """Make everything durable and release what the store holds. May be called twice."""
