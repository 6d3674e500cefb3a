"""What may go into a collection, and what may be asked of it. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection as Several
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from aurora_swarm.errors import StoreError
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.ports.store import Document, Scalar, Schema, Where

Vectors = NDArray[np.float32]
Key = Scalar | tuple[type, bool]
Terms = Mapping[str, frozenset[Key]]
"""A filter in a form that can be compared: by field, the keys of the values that match."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{3,63}")
_TYPES: Mapping[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_LARGEST = 1 << 63
_SMALL, _LARGE, _TINIEST = 1e-100, 1e100, np.finfo(np.float64).tiny


def checked_name(name: str) -> str:
    """The name of a collection.

    Raises:
        StoreError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot name a collection",
            remedy="take 3 to 63 letters, digits, '_', '-' and '.'",
        )
    return name


def checked_fields(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields that a collection's documents must have, sorted by name.

    Raises:
        StoreError: One has a type that there is not.
    """
    for field, kind in fields.items():
        if kind not in _TYPES:
            raise StoreError(f"field {field!r} has the type {kind!r}", remedy=f"take one of {', '.join(_TYPES)}")
    return dict(sorted(fields.items()))


def check_documents(documents: Sequence[Document], fields: Mapping[str, str]) -> None:
    """Check all but the vectors of documents that are to be kept together.

    Raises:
        StoreError: Two have one id, an id is empty, or metadata is missing, of the wrong type, or cannot be kept.
    """
    seen: set[str] = set()
    for document in documents:
        if not document.id:
            raise StoreError("a document has an empty id", remedy="give every document an id of its own")
        if document.id in seen:
            raise StoreError(f"document {document.id!r} comes twice in one call", remedy="give each id once")
        seen.add(document.id)
        if document.metadata or fields:
            _check_metadata(document, fields)


def _check_metadata(document: Document, fields: Mapping[str, str]) -> None:
    for field, value in document.metadata.items():
        if problem := _fault(value):
            raise StoreError(f"document {document.id!r}: metadata {field!r} is {problem}")
    for field, kind in fields.items():
        given = type(document.metadata.get(field)).__name__ if field in document.metadata else "missing"
        if given != kind:
            raise StoreError(
                f"document {document.id!r}: metadata {field!r} is {given}, the collection wants {kind}",
                remedy="give it, or use a collection without this rule",
            )


def _fault(value: object) -> str:
    """What keeps a value from being metadata; empty when nothing does."""
    match value:
        case bool() | str():
            return ""
        case int():
            return "" if -_LARGEST <= value < _LARGEST else "an integer of more than 64 bits"
        case float():
            return "" if math.isfinite(value) else "not a finite number"
        case _:
            return f"a {type(value).__name__}, and only str, int, float and bool are kept"


def key_of(value: Scalar) -> Key:
    """What two values have in common exactly when they are equal: 1 and 1.0 are, 1 and True are not."""
    return (bool, value) if isinstance(value, bool) else value


def terms_of(where: Where | None) -> Terms:
    """A filter by field.

    Raises:
        StoreError: It compares with something that metadata cannot be.
    """
    return {field: _keys(field, wanted) for field, wanted in where.items()} if where else {}


def _keys(field: str, wanted: Scalar | Several[Scalar]) -> frozenset[Key]:
    values: Iterable[object] = wanted if _is_several(wanted) else (wanted,)
    keys: set[Key] = set()
    for value in values:
        if problem := _fault(value):
            raise StoreError(f"the filter compares {field!r} with {problem}")
        assert isinstance(value, str | int | float)
        keys.add(key_of(value))
    return frozenset(keys)


def _is_several(wanted: Scalar | Several[Scalar]) -> TypeGuard[Several[Scalar]]:
    return isinstance(wanted, Several) and not isinstance(wanted, str | bytes | Mapping)


def unit_vectors(documents: Sequence[Document]) -> Vectors:
    """The vectors that documents bring, each of length 1, or of zeros.

    Args:
        documents: All of them have a vector; may be empty.

    Raises:
        StoreError: A vector is empty, has another length than those before it, or holds what is no finite number.
    """
    if not documents:
        return np.empty((0, 0), dtype=np.float32)
    lengths = [len(document.vector or ()) for document in documents]
    for document, length in zip(documents, lengths, strict=True):
        if length == 0 or length != lengths[0]:
            raise StoreError(f"document {document.id!r}: its vector has {length} numbers, others have {lengths[0]}")
    made = np.array([document.vector for document in documents], dtype=np.float64)
    sound = np.isfinite(made).all(axis=1)
    if not sound.all():
        raise StoreError(f"document {documents[int(sound.argmin())].id!r}: its vector holds what is no finite number")
    return normalised(made)


def unit_vector(vector: Sequence[float]) -> Vectors:
    """A query's vector, of length 1 or of zeros.

    Raises:
        StoreError: It is empty, or holds what is no finite number.
    """
    made = np.array(vector, dtype=np.float64)
    if made.ndim != 1 or not made.size or not np.isfinite(made).all():
        raise StoreError("the query is no vector: it must be finite numbers, as many as a document's")
    row: Vectors = normalised(made[np.newaxis])[0]
    return row


def normalised(vectors: NDArray[np.float64]) -> Vectors:
    """The same directions with length 1; zeros stay zeros."""
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    if not ((lengths > _SMALL) & (lengths < _LARGE)).all():
        # By its largest number first, so that no square leaves the range of numbers.
        vectors = vectors / np.maximum(np.abs(vectors).max(axis=1, keepdims=True, initial=0.0), _TINIEST)
        lengths = np.maximum(np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), _SMALL)
    made: Vectors = (vectors / lengths).astype(np.float32)
    return made


def length_fault(length: int, dimensions: int | None, what: str) -> StoreError | None:
    """What is wrong with a vector that has another length than those that are there; None when nothing is."""
    if dimensions is None or length == dimensions:
        return None
    return StoreError(
        f"{what}: its vector has {length} numbers, the collection's have {dimensions}",
        remedy="use the embedder that the collection was filled with, or another collection",
    )


def checked_count(k: int) -> None:
    """Raise `StoreError` where fewer than one document is asked for."""
    if k < 1:
        raise StoreError(f"a query for {k} documents", remedy="ask for 1 at least")


def check_made_for(name: str, schema: Schema, embedder: str, fields: Mapping[str, str] | None) -> None:
    """Raise `StoreError` where a collection was made by another embedder, or with other fields.

    Args:
        name: The collection's.
        schema: What it was made with.
        embedder: What it is to be used with.
        fields: Metadata that its documents are to have; None to take it as it is.
    """
    if schema.embedder != embedder:
        raise StoreError(
            f"collection {name!r} was made with the embedder {schema.embedder!r}, this store has {embedder!r}: their "
            "vectors cannot be compared",
            remedy="open the store with that embedder, or use another collection",
        )
    if fields is not None and dict(fields) != dict(schema.fields):
        raise StoreError(
            f"collection {name!r} was made with the fields {dict(schema.fields)}, not {dict(fields)}",
            remedy="leave fields out to take it as it is, or use another collection",
        )


async def vectors_of(documents: Sequence[Document], embedder: Embedder) -> Vectors:
    """The vectors of documents: their own, or those of their texts.

    Raises:
        StoreError: A vector cannot be one, or has another length than the others.
    """
    bare = [document for document in documents if document.vector is None]
    own = unit_vectors([document for document in documents if document.vector is not None])
    if not bare:
        return own
    made = await embedder.embed([document.text for document in bare])
    if not len(own):
        return made
    if fault := length_fault(own.shape[1], made.shape[1], "a document that brings its vector"):
        raise fault
    both: Vectors = np.empty((len(documents), made.shape[1]), dtype=np.float32)
    brings = np.array([document.vector is not None for document in documents])
    both[brings], both[~brings] = own, made
    return both
