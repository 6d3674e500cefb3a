"""What Chroma is told, and what it says, in our words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from aurora_swarm.errors import StoreError
from aurora_swarm.memory.checking import Key, Terms, Vectors, normalised
from aurora_swarm.ports.store import Document, Match, Scalar, Schema

EMBEDDER, FIELDS = "aurora_embedder", "aurora_fields"
_RESERVED = "chroma:"


def metadata_of(schema: Schema) -> dict[str, str]:
    """A collection's schema, as its metadata in Chroma."""
    return {EMBEDDER: schema.embedder, FIELDS: msgspec.json.encode(dict(schema.fields)).decode()}


def schema_of(name: str, metadata: Mapping[str, Any] | None) -> Schema:
    """The schema that a collection was made with.

    Raises:
        StoreError: Something else made it.
    """
    try:
        given = dict(metadata or {})
        fields = msgspec.json.decode(given[FIELDS], type=dict[str, str])
        return Schema(None, given[EMBEDDER], fields)
    except (KeyError, TypeError, msgspec.MsgspecError):
        raise StoreError(
            f"the server has a collection {name!r} that another program made", remedy="use another name"
        ) from None


def check_sendable(documents: Iterable[Document]) -> None:
    """Raise `StoreError` where a document holds what Chroma cannot keep: half characters, or names of its own."""
    for document in documents:
        texts = [document.id, document.text, *document.metadata, *document.metadata.values()]
        if any(isinstance(text, str) and not _whole(text) for text in texts):
            raise StoreError(f"document {document.id!a}: it holds half of a character, which Chroma cannot keep")
        if any(field.startswith(_RESERVED) for field in document.metadata):
            raise StoreError(f"document {document.id!r}: metadata that begins with {_RESERVED!r} is Chroma's own")


def _whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text) if not text.isascii() else True


def condition(terms: Terms) -> dict[str, Any] | None:
    """A filter as Chroma takes it; None for no filter. No value set is empty."""
    parts = [_any_of(field, keys) for field, keys in terms.items()]
    return _joined("$and", parts) if parts else None


def _any_of(field: str, keys: Iterable[Key]) -> dict[str, Any]:
    # A list of Chroma's holds values of one type only.
    by_type: dict[type, list[Scalar]] = {}
    for key in keys:
        value: Scalar = key[1] if isinstance(key, tuple) else key
        by_type.setdefault(type(value), []).append(value)
    return _joined("$or", [{field: {"$in": values}} for values in by_type.values()])


def _joined(operator: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    return parts[0] if len(parts) == 1 else {operator: parts}


def replacing(document: Document, there: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Metadata to send for a document; Chroma keeps fields of the one before, unless it is told that there are none."""
    return {**dict.fromkeys(there or ()), **document.metadata} or None


def documents_of(got: Mapping[str, Any], *, vectors: bool) -> list[Document]:
    """The documents of an answer to ``get``, or of one query."""
    rows: Sequence[Any] = got["embeddings"] if vectors else [None] * len(got["ids"])
    return [
        Document(id_, text or "", dict(metadata or {}), None if row is None else tuple(float(n) for n in row))
        for id_, text, metadata, row in zip(got["ids"], got["documents"], got["metadatas"], rows, strict=True)
    ]


def ranked(vector: Vectors, found: Sequence[Document], k: int, *, vectors: bool) -> list[Match]:
    """The nearest of what was found, by sums in double precision; equals by id.

    Args:
        vector: The query's.
        found: With their vectors.
        k: How many at most.
        vectors: Whether their vectors are wanted.
    """
    if not found:
        return []
    rows = normalised(np.array([document.vector for document in found], dtype=np.float64)).astype(np.float64)
    similarities = np.clip((rows * vector.astype(np.float64)).sum(axis=1), -1.0, 1.0).tolist()
    matches = [
        Match(document if vectors else msgspec.structs.replace(document, vector=None), similarity)
        for document, similarity in zip(found, similarities, strict=True)
    ]
    return sorted(matches, key=lambda match: (-match.similarity, match.document.id))[:k]
