"""Documents of a collection in memory: vectors in one matrix, metadata in columns of numbers. Pure.

Rows are only added, and never changed: what replaces a document is a new row, and the old one is marked as gone. So a
`Snapshot` stays true while the table goes on, and may be searched on another thread. When most rows are gone, those
that are left move to a new table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from aurora_swarm.memory.checking import Terms, Vectors, key_of
from aurora_swarm.ports.store import Document

_FIRST_CAPACITY = 64
_GONE_AT_LEAST = 1_024

Codes = NDArray[np.int32]
Mask = NDArray[np.bool_]


class Snapshot(msgspec.Struct, frozen=True):
    """A collection at one moment.

    Args:
        vectors: One row per document, those that are gone among them.
        alive: Which rows are not gone.
        documents: By row; more of them than rows, when the table went on.
    """

    vectors: Vectors
    alive: Mask
    documents: Sequence[Document]


class Selection(msgspec.Struct, frozen=True):
    """One condition of a filter, ready to be looked up.

    Args:
        codes: A column.
        wanted: For each code, whether it matches; None when only `code` does.
        code: The only code that matches; -1 when none does.
    """

    codes: Codes
    wanted: Mask | None
    code: int = -1

    def mask(self) -> Mask:
        """Which rows match."""
        return self.codes == self.code if self.wanted is None else self.wanted[self.codes]


class _Column:
    """A field's values, each as a number that counts from 1; 0 where a document has none."""

    def __init__(self, capacity: int) -> None:
        self.codes: Codes = np.zeros(capacity, dtype=np.int32)
        self.known: dict[object, int] = {}

    def set(self, row: int, key: object) -> None:
        self.codes[row] = self.known.setdefault(key, len(self.known) + 1)

    def select(self, rows: int, keys: Iterable[object]) -> Selection:
        found = [code for key in keys if (code := self.known.get(key))]
        if len(found) < 2:
            return Selection(self.codes[:rows], None, found[0] if found else -1)
        wanted = np.zeros(len(self.known) + 1, dtype=np.bool_)
        wanted[found] = True
        return Selection(self.codes[:rows], wanted)


class Table:
    """The documents of one collection.

    Args:
        dimensions: Length of the vectors; None until the first one came.

    Attributes:
        dimensions: The same.
    """

    def __init__(self, dimensions: int | None = None) -> None:
        self.dimensions = dimensions
        self._used = 0
        self._vectors: Vectors = np.empty((0, dimensions or 0), dtype=np.float32)
        self._alive: Mask = np.zeros(0, dtype=np.bool_)
        self._documents: list[Document] = []
        self._rows: dict[str, int] = {}
        self._columns: dict[str, _Column] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, documents: Sequence[Document], vectors: Vectors) -> None:
        """Add documents, or replace those that have their ids.

        Args:
            documents: Without vectors.
            vectors: Of length 1; as many, and as long, as there must be.
        """
        if not documents:
            return
        start, end = self._used, self._used + len(documents)
        self._reserve(end, vectors.shape[1])
        self._vectors[start:end] = vectors
        self._alive[start:end] = True
        self._documents += documents
        for row, document in enumerate(documents, start):
            gone = self._rows.get(document.id)
            if gone is not None:
                self._alive[gone] = False
            self._rows[document.id] = row
            for field, value in document.metadata.items():
                self._column(field).set(row, key_of(value))
        self._used = end

    def remove(self, ids: Iterable[str]) -> int:
        """Delete documents; returns how many of them were there."""
        before = len(self._rows)
        for id_ in ids:
            row = self._rows.pop(id_, None)
            if row is not None:
                self._alive[row] = False
        return before - len(self._rows)

    def get(self, ids: Sequence[str]) -> list[tuple[Document, Vectors]]:
        """Those of the documents that are there, with their vectors."""
        rows = [row for id_ in ids if (row := self._rows.get(id_)) is not None]
        return [(self._documents[row], self._vectors[row]) for row in rows]

    def snapshot(self) -> Snapshot:
        """All of it at this moment; takes a byte per row."""
        used = self._used
        return Snapshot(self._vectors[:used], self._alive[:used].copy(), self._documents)

    def select(self, terms: Terms) -> list[Selection]:
        """A filter's conditions; no row matches one of a field that no document has."""
        nothing = _Column(self._used)
        return [self._columns.get(field, nothing).select(self._used, keys) for field, keys in terms.items()]

    def matching(self, terms: Terms) -> list[str]:
        """Ids of the documents that match a filter."""
        mask = combined(self._alive[: self._used], self.select(terms))
        return [self._documents[row].id for row in np.flatnonzero(mask)]

    def count(self, terms: Terms) -> int:
        """How many documents match a filter."""
        if not terms:
            return len(self._rows)
        return int(np.count_nonzero(combined(self._alive[: self._used], self.select(terms))))

    def compacted(self, *, at_least: int = _GONE_AT_LEAST) -> Table:
        """The same documents without rows that are gone, when most are, and not too few; else this table."""
        gone = self._used - len(self._rows)
        if gone < max(at_least, len(self._rows)):
            return self
        rows = np.flatnonzero(self._alive[: self._used])
        fresh = Table(self.dimensions)
        fresh.put([self._documents[row] for row in rows], self._vectors[rows])
        return fresh

    def _column(self, field: str) -> _Column:
        column = self._columns.get(field)
        if column is None:
            column = self._columns[field] = _Column(len(self._alive))
        return column

    def _reserve(self, rows: int, dimensions: int) -> None:
        """Room for rows: twice as much each time, so that adding one copies little in the long run."""
        if self.dimensions is None or self._vectors.shape[1] != dimensions:
            self.dimensions = dimensions
            self._vectors = np.empty((0, dimensions), dtype=np.float32)
        if rows <= len(self._vectors):
            return
        capacity = max(_FIRST_CAPACITY, rows, 2 * len(self._alive))
        used = self._used
        vectors, alive = np.empty((capacity, dimensions), dtype=np.float32), np.zeros(capacity, dtype=np.bool_)
        vectors[:used], alive[:used] = self._vectors[:used], self._alive[:used]
        self._vectors, self._alive = vectors, alive
        for column in self._columns.values():
            codes = np.zeros(capacity, dtype=np.int32)
            codes[:used] = column.codes[:used]
            column.codes = codes


def combined(alive: Mask, selections: Sequence[Selection]) -> Mask:
    """Which rows are not gone and match every condition."""
    mask = alive
    for selection in selections:
        mask = mask & selection.mask()
    return mask
