"""What a table finds is what a plain loop finds: ranking, filters, replacing, deleting, compaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm.memory.checking import normalised, terms_of
from aurora_swarm.memory.ranking import Search, nearest
from aurora_swarm.memory.table import Table
from aurora_swarm.ports.store import Document, Where

NUMBERS = st.sampled_from((-1.0, -0.5, 0.0, 0.0, 0.25, 1.0))
VECTORS = st.tuples(NUMBERS, NUMBERS, NUMBERS)
VALUES = st.sampled_from(("red", "blue", "1", 1, 2, 1.0, 2.5, True, False))
METADATA = st.dictionaries(st.sampled_from(("a", "b")), VALUES, max_size=2)
FILTERS = st.dictionaries(st.sampled_from(("a", "b", "c")), VALUES | st.lists(VALUES, max_size=3), max_size=2)
IDS = st.integers(0, 25).map(lambda n: f"id-{n:02}")
PUTS = st.lists(st.tuples(IDS, VECTORS, METADATA), min_size=1, max_size=6, unique_by=lambda put: put[0])
STEPS = st.lists(PUTS | st.lists(IDS, min_size=1, max_size=4), max_size=12)


def equal(one: object, other: object) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def matches(metadata: Mapping[str, Any], where: Where) -> bool:
    return all(
        field in metadata
        and any(equal(metadata[field], value) for value in (wanted if isinstance(wanted, list) else [wanted]))
        for field, wanted in where.items()
    )


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    product = sum(float(a) * float(b) for a, b in zip(one, other, strict=True))
    return max(-1.0, min(1.0, product))  # unit vectors in single precision are a little longer or shorter


def units(vectors: list[tuple[float, ...]]) -> np.ndarray:
    return normalised(np.array(vectors, dtype=np.float64))


def filled(steps: list[Any], *, compact: bool) -> tuple[Table, dict[str, tuple[np.ndarray, dict[str, Any]]]]:
    table, naive = Table(), dict[str, tuple[np.ndarray, dict[str, Any]]]()
    for step in steps:
        if isinstance(step[0], str):
            gone = {id_ for id_ in step if naive.pop(id_, None)}
            assert table.remove(step) == len(gone)
        else:
            vectors = units([vector for _, vector, _ in step])
            table.put([Document(id_, "", metadata) for id_, _, metadata in step], vectors)
            naive |= {id_: (vector, meta) for (id_, _, meta), vector in zip(step, vectors, strict=True)}
        if compact:
            table = table.compacted(at_least=1)
    return table, naive


@settings(max_examples=150)
@given(STEPS, st.lists(st.tuples(VECTORS, FILTERS, st.integers(1, 30)), min_size=1, max_size=5), st.booleans())
def test_finds_what_a_plain_loop_finds(steps: list[Any], asked: list[Any], compact: bool) -> None:
    table, naive = filled(steps, compact=compact)
    assert len(table) == len(naive)
    if not naive:
        return
    searches = []
    for vector, where, k in asked:
        terms = terms_of(where)
        searches.append(Search(units([vector])[0], k, frozenset(terms.items()) or None, table.select(terms)))
        assert table.count(terms) == sum(matches(meta, where) for _, meta in naive.values())
        assert sorted(table.matching(terms)) == sorted(i for i, (_, meta) in naive.items() if matches(meta, where))
    snapshot = table.snapshot()
    for search, found, (_, where, k) in zip(searches, nearest(snapshot, searches), asked, strict=True):
        scored = {i: cosine(v, search.vector) for i, (v, meta) in naive.items() if matches(meta, where)}
        expected = sorted(scored, key=lambda i: (-round(scored[i], 12), i))[:k]
        assert [snapshot.documents[row].id for row, _ in found] == expected
        assert [similarity for _, similarity in found] == pytest.approx([scored[i] for i in expected], abs=1e-12)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.02])
def test_recall_is_one_among_ten_thousand(share: float) -> None:
    dice = np.random.default_rng(5)
    vectors = normalised(dice.normal(size=(10_000, 256)))
    vectors[5_000:5_050] = vectors[0]
    chosen = dice.random(10_000) < share
    table = Table()
    table.put([Document(f"{n:05}", "", {"in": bool(chosen[n])}) for n in range(10_000)], vectors)
    terms = terms_of({"in": True})
    queries = [*vectors[:10], *normalised(dice.normal(size=(40, 256)))]
    filter_ = None if share == 1.0 else frozenset(terms.items())
    selections = [] if share == 1.0 else table.select(terms)
    found = nearest(table.snapshot(), [Search(query, 20, filter_, selections) for query in queries])
    rows = np.flatnonzero(chosen)
    for query, some in zip(queries, found, strict=True):
        scores = (vectors[rows].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        expected = rows[np.lexsort((rows, -scores))[:20]]
        assert [row for row, _ in some] == expected.tolist()


def test_what_single_precision_cannot_tell_apart_is_ranked_all_the_same() -> None:
    dice = np.random.default_rng(11)
    vectors = normalised(np.ones((3_000, 256)) + 2e-4 * dice.normal(size=(3_000, 256)))
    table = Table()
    table.put([Document(f"{n:05}", "") for n in range(3_000)], vectors)
    query = normalised(np.ones((1, 256)))[0]
    (found,) = nearest(table.snapshot(), [Search(query, 20)])
    scores = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1).clip(max=1.0)
    assert [row for row, _ in found] == np.lexsort((np.arange(3_000), -scores))[:20].tolist()


def test_a_snapshot_stays_as_it_was() -> None:
    table = Table()
    table.put([Document("a", "old", {"x": 1}), Document("b", "", {"x": 1})], units([(1.0, 0.0), (0.0, 1.0)]))
    snapshot, selections = table.snapshot(), table.select(terms_of({"x": 1}))
    table.put([Document("a", "new", {"x": 2})], units([(0.0, 1.0)]))
    table.remove(["b"])
    table.put([Document(f"more-{n}", "", {"x": 1}) for n in range(500)], units([(1.0, 0.0)] * 500))
    (found,) = nearest(snapshot, [Search(units([(1.0, 0.0)])[0], 5, "x", selections)])
    assert [(snapshot.documents[row].text, similarity) for row, similarity in found] == [("old", 1.0), ("", 0.0)]


def test_adding_one_at_a_time_copies_little() -> None:
    table, moved = Table(), 0
    vectors, before = units([(1.0, 2.0)]), None
    for n in range(5_000):
        table.put([Document(str(n), "")], vectors)
        base = table.snapshot().vectors.base
        moved += n if base is not before else 0
        before = base
    assert moved < 3 * 5_000


def test_rows_that_are_gone_are_given_back() -> None:
    table = Table()
    for n in range(5_000):
        table.put([Document("same", str(n), {"n": n})], units([(1.0, n / 5_000)]))
        table = table.compacted()
    assert len(table.snapshot().alive) < 3_000
    assert [document.text for document, _ in table.get(["same"])] == ["4999"]
    assert (table.count(terms_of({"n": 4_999})), table.count(terms_of({"n": 17}))) == (1, 0)
