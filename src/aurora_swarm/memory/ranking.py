"""The nearest documents, exactly. Pure.

A product of matrices in single precision adds up in an order that depends on where a row stands, so that equal vectors
come out a little unequal. Whatever is within that error of the last place is computed once more, in double precision
and in one order; so equals are equals, and the nearest are the nearest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

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
_COPYING = 20
"""How many times as long it takes to copy a row out of the matrix as to multiply it."""

T = TypeVar("T")
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
    alike: dict[object, list[int]] = {}
    for place, search in enumerate(searches):
        alike.setdefault(search.filter, []).append(place)
    answers: dict[int, Found] = {}
    together: list[tuple[int, Mask]] = []
    for places in alike.values():
        mask = combined(snapshot.alive, searches[places[0]].selections)
        if np.count_nonzero(mask) * _COPYING < len(mask) * len(places):
            _among(snapshot, np.flatnonzero(mask), searches, places, answers)
        else:
            together += [(place, mask) for place in places]
    _all(snapshot, searches, together, answers)
    return [answers[place] for place in range(len(searches))]


def _all(
    snapshot: Snapshot, searches: Sequence[Search], masked: Sequence[tuple[int, Mask]], answers: dict[int, Found]
) -> None:
    """Answer those for whom most rows count: all rows for all of them, then without those that are masked."""
    every = len(snapshot.alive)
    for part in _parts(masked, every):
        scores = np.stack([searches[place].vector for place, _ in part]) @ snapshot.vectors.T
        for row, (place, mask) in zip(scores, part, strict=True):
            count = int(np.count_nonzero(mask))
            if count < every:
                row[~mask] = _OUT
            chosen = _candidates(row, min(searches[place].k, count))
            answers[place] = _ordered(snapshot, searches[place], chosen)


def _among(
    snapshot: Snapshot,
    rows: NDArray[np.intp],
    searches: Sequence[Search],
    places: Sequence[int],
    answers: dict[int, Found],
) -> None:
    """Answer those who share a filter that leaves few rows: copied out of the matrix once for all of them."""
    vectors = snapshot.vectors[rows]
    for part in _parts(places, len(rows)):
        scores = np.stack([searches[place].vector for place in part]) @ vectors.T
        for row, place in zip(scores, part, strict=True):
            chosen = rows[_candidates(row, min(searches[place].k, len(rows)))]
            answers[place] = _ordered(snapshot, searches[place], chosen)


def _parts(several: Sequence[T], rows: int) -> Iterator[Sequence[T]]:
    width = max(1, _PRODUCT // max(1, rows))
    return (several[start : start + width] for start in range(0, len(several), width))


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
