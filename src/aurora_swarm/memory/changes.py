"""The steps of which a transaction of a store consists. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from aurora_swarm.memory.checking import Vectors
from aurora_swarm.ports.store import Document


class Kept(msgspec.Struct, frozen=True):
    """A collection as the file has it.

    Args:
        key: Its number in the file.
        name: Its name.
        embedder: Name of the embedder.
        fields: Metadata that its documents must have.
        dimensions: Length of its vectors; None until the first one came.
    """

    key: int
    name: str
    embedder: str
    fields: Mapping[str, str]
    dimensions: int | None = None


class Puts(msgspec.Struct, frozen=True):
    """Documents to be written into a collection, in their order; those that have their ids are replaced.

    Args:
        key: The collection.
        documents: Without vectors.
        vectors: Theirs, in blocks of rows.
    """

    key: int
    documents: Sequence[Document]
    vectors: Sequence[Vectors]


class Removes(msgspec.Struct, frozen=True):
    """Documents to be deleted from a collection."""

    key: int
    ids: Sequence[str]


class Drops(msgspec.Struct, frozen=True):
    """A collection to be deleted with all that is in it."""

    key: int


Change = Kept | Puts | Removes | Drops
"""One step of a transaction; `Kept` makes a collection."""
