"""The nearest documents, exactly. Pure.

A product of matrices in single precision adds up in an order that depends on where a row stands, so that equal vectors
come out a little unequal. Whatever is within that error of the last place is computed once more, in double precision
and in one order; so equals are equals, and the nearest are the nearest.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from aurora_swarm.memory.checking import Vectors
from aurora_swarm.memory.table import Mask, Selection, Snapshot, combined

_ERROR = 1e-5
"""More than a product of unit vectors in single precision is ever wrong by."""
_OUT = np.float32(-4.0)
_PRODUCT = 400_000
"""Similarities at a time: as many as a core's cache holds."""
_FEW = 8
"""Rows are copied out of the matrix where a filter leaves less than one in so many."""

Found = list[tuple[int, float]]
"""Rows with their similarities, nearest first."""


class Search(msgspec.Struct, frozen=True):
    """One query.

    Args:
        vector: Of length 1, as long as the rows.
        k: How many at most.
        filter: Identity of the filter: equal ones are looked up once. None for no filter.
        selections: The filter's conditions.
    """

    vector: Vectors
    k: int
    filter: object = None
    selections: Sequence[Selection] = ()


def nearest(snapshot: Snapshot, searches: Sequence[Search]) -> list[Found]:
    """Answer many queries on one collection.

    Args:
        snapshot: The collection.
        searches: What is looked for.

    Returns:
        For each the rows that are nearest, nearest first, equals by id.
    """
    masks: dict[object, Mask] = {}
    answers: dict[int, Found] = {}
    together: list[int] = []
    for place, search in enumerate(searches):
        mask = masks.get(search.filter)
        if mask is None:
            mask = masks[search.filter] = combined(snapshot.alive, search.selections)
        if search.filter is not None and np.count_nonzero(mask) * _FEW < len(mask):
            answers[place] = _among(snapshot, search, np.flatnonzero(mask))
        else:
            together.append(place)
    width = max(1, _PRODUCT // max(1, len(snapshot.alive)))
    for start in range(0, len(together), width):
        places = together[start : start + width]
        part = [searches[place] for place in places]
        answers.update(zip(places, _product(snapshot, part, [masks[s.filter] for s in part]), strict=True))
    return [answers[place] for place in range(len(searches))]


def _product(snapshot: Snapshot, searches: Sequence[Search], masks: Sequence[Mask]) -> list[Found]:
    scores = np.stack([search.vector for search in searches]) @ snapshot.vectors.T
    every = len(snapshot.alive)
    found: list[Found] = []
    for row, search, mask in zip(scores, searches, masks, strict=True):
        count = int(np.count_nonzero(mask))
        if count < every:
            row[~mask] = _OUT
        found.append(_ordered(snapshot, search, _candidates(row, min(search.k, count))))
    return found


def _among(snapshot: Snapshot, search: Search, rows: NDArray[np.intp]) -> Found:
    chosen = rows[_candidates(snapshot.vectors[rows] @ search.vector, min(search.k, len(rows)))]
    return _ordered(snapshot, search, chosen)


def _candidates(scores: Vectors, k: int) -> NDArray[np.intp]:
    """Places of all scores that may belong to the `k` highest."""
    if k <= 0:
        return np.empty(0, dtype=np.intp)
    last = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= last - _ERROR)


def _ordered(snapshot: Snapshot, search: Search, rows: NDArray[np.intp]) -> Found:
    if not len(rows):
        return []
    products = snapshot.vectors[rows].astype(np.float64) * search.vector.astype(np.float64)
    similarities = np.clip(products.sum(axis=1), -1.0, 1.0).tolist()
    ranked = sorted(zip(rows.tolist(), similarities, strict=True), key=lambda p: (-p[1], snapshot.documents[p[0]].id))
    return ranked[: search.k]
