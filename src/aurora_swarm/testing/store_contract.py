"""What every `aurora_swarm.ports.store.VectorStore` must do, as tests to inherit. Needs pytest and pytest-asyncio.

Inherit `StoreContract`, give it a fixture, and let pytest find it::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open_it(self, tmp_path):
            return lambda **options: open_my_store(tmp_path / "store", **options)  # the same one each time in a test

`open_it` takes ``embedder`` and gives an async context manager. A store that does not outlive its closing sets
``durable = False``.
"""

# ruff: noqa: D102 - a test says what it shows in its name

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from aurora_swarm.errors import StoreError
from aurora_swarm.ports.store import Document, Match, Schema, VectorStore, Where

OpenIt = Callable[..., AbstractAsyncContextManager[VectorStore]]

NOTES = (
    Document("cat", "a cat sleeps on the warm sofa", {"agent": "ann", "round": 1}),
    Document("market", "shares fell on the stock market today", {"agent": "bob", "round": 1}),
    Document("dog", "the dog runs through the garden", {"agent": "ann", "round": 2}),
    Document("bank", "the bank raised its interest rates", {"agent": "cid", "round": 2}),
)
ODD_TEXTS = (
    "",
    " ",
    "{braces} and {{more}}",
    "nul\0nul",
    "sch\u00f6n \u65e5\u672c \U0001f41d",
    "' OR 1=1 --",
    "x" * 20_000,
)
PLANE = {
    "east": (1.0, 0.0, 0.0),
    "north": (0.0, 1.0, 0.0),
    "northeast": (0.6, 0.8, 0.0),
    "up": (0.0, 0.0, 1.0),
    "west": (-1.0, 0.0, 0.0),
}
METADATA: tuple[dict[str, Any], ...] = (
    {"colour": "red", "size": 1},
    {"colour": "blue", "size": 1},
    {"colour": "red", "size": 2, "new": True},
    {"size": 2, "new": False},
    {},
)
FILTERS: tuple[tuple[Where, set[str]], ...] = (
    ({}, {"east", "north", "northeast", "up", "west"}),
    ({"colour": "red"}, {"east", "northeast"}),
    ({"colour": ["red", "blue"]}, {"east", "north", "northeast"}),
    ({"colour": {"red"}, "size": frozenset({1, 3})}, {"east"}),
    ({"size": 2, "colour": "blue"}, set()),
    ({"new": True}, {"northeast"}),
    ({"new": [True, False]}, {"northeast", "up"}),
    ({"size": 1.0}, {"east", "north"}),
    ({"size": True}, set()),
    ({"size": "1"}, set()),
    ({"size": [1, "1", True, 2.0]}, {"east", "north", "northeast", "up"}),
    ({"nobody": "has it"}, set()),
    ({"colour": []}, set()),
)


def plane() -> list[Document]:
    """Documents with vectors and metadata of their own."""
    return [
        Document(name, f"to the {name}", metadata, vector)
        for (name, vector), metadata in zip(PLANE.items(), METADATA, strict=True)
    ]


def names(matches: Sequence[Match]) -> list[str]:
    """What was found, in its order."""
    return [match.document.id for match in matches]


def bare(document: Document) -> Document:
    """The same without its vector."""
    return Document(document.id, document.text, document.metadata)


class OtherEmbedder:
    """An embedder of another name; every text has one direction."""

    name = "other"

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), (len(texts), 1))

    async def aclose(self) -> None:
        """Nothing to release."""


class StoreContract:
    """The contract of `VectorStore` and `Collection`, with the default embedder."""

    durable: ClassVar[bool] = True

    async def test_finds_by_meaning(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            notes = await store.collection("notes")
            await notes.upsert(NOTES)
            found = await notes.query("a kitten rests on the couch", 2)
            assert names(found)[0] == "cat"
            assert found[0].document == NOTES[0]
            assert names(await notes.query("prices of stocks and credit", 2)) in (
                ["market", "bank"],
                ["bank", "market"],
            )

    async def test_ranks_by_the_cosine_and_equals_by_id(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            await plain.upsert([*plane(), Document("also-east", "", {}, (3.0, 0.0, 0.0))])
            found = await plain.query((2.0, 0.0, 0.0), 10)
            assert names(found) == ["also-east", "east", "northeast", "north", "up", "west"]
            assert [m.similarity for m in found] == pytest.approx([1.0, 1.0, 0.6, 0.0, 0.0, -1.0], abs=1e-6)
            assert names(await plain.query((2.0, 0.0, 0.0), 1)) == ["also-east"]

    async def test_equals_come_by_id_however_many_there_are(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            same = await store.collection("same")
            ids = [f"id-{n:02}" for n in range(30)]
            shuffled = random.Random(3).sample(ids, 30)  # noqa: S311 - an order
            await same.upsert([Document(id_, "", {}, (0.3, -0.7, 0.2)) for id_ in shuffled])
            assert names(await same.query((0.3, -0.7, 0.2), 12)) == ids[:12]

    async def test_filters_by_equality_and_by_set(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            for where, expected in FILTERS:
                await plain.upsert(plane())
                assert set(names(await plain.query((1.0, 0.2, 0.1), 10, where=where))) == expected, where
                assert await plain.count(where) == len(expected), where
                assert await plain.delete(where=where) == len(expected), where
                assert {d.id for d in await plain.get(list(PLANE))} == PLANE.keys() - expected, where

    async def test_a_filter_comes_before_the_ranking(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            near = [Document(f"near-{n:02}", "", {"kind": "near"}, (1.0, 0.0, n / 1_000)) for n in range(60)]
            await plain.upsert([*near, Document("far", "", {"kind": "far"}, (-1.0, 0.0, 0.0))])
            assert names(await plain.query((1.0, 0.0, 0.0), 3, where={"kind": "far"})) == ["far"]

    async def test_gets_in_the_order_of_the_ids_and_leaves_out_what_is_not_there(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            notes = await store.collection("notes")
            await notes.upsert(NOTES)
            assert await notes.get(["dog", "nobody", "cat"]) == [NOTES[2], NOTES[0]]
            assert await notes.get([]) == []

    async def test_vectors_come_where_they_are_wanted(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            await plain.upsert([Document("long", "", {}, (3.0, 4.0, 0.0))])
            (got,) = await plain.get(["long"], vectors=True)
            (found,) = await plain.query((1.0, 0.0, 0.0), 1, vectors=True)
            assert got.vector == pytest.approx((0.6, 0.8, 0.0))
            assert found.document.vector == pytest.approx((0.6, 0.8, 0.0))
            assert (await plain.query((1.0, 0.0, 0.0), 1))[0].document.vector is None

    async def test_replaces_what_has_the_same_id_whole(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            await plain.upsert(plane())
            await plain.upsert([Document("east", "elsewhere", {"other": "field"}, (0.0, -1.0, 0.0))])
            assert await plain.get(["east"]) == [Document("east", "elsewhere", {"other": "field"})]
            assert await plain.count() == len(PLANE)
            assert names(await plain.query((1.0, 0.0, 0.0), 1)) == ["northeast"]
            assert names(await plain.query((0.0, -1.0, 0.0), 5, where={"colour": "red"})) == ["northeast"]
            assert names(await plain.query((0.0, -1.0, 0.0), 1, where={"other": "field"})) == ["east"]
            await plain.upsert([Document("east", "bare", {}, (0.0, -1.0, 0.0))])
            assert await plain.get(["east"]) == [Document("east", "bare", {})]

    async def test_what_is_deleted_is_found_no_more(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            await plain.upsert(plane())
            assert await plain.delete(["east", "nobody", "east"]) == 1
            assert await plain.delete(["east"]) == 0
            assert await plain.delete([]) == 0
            assert names(await plain.query((1.0, 0.0, 0.0), 1)) == ["northeast"]
            assert await plain.delete(["north", "up"], where={"colour": "blue"}) == 1
            assert await plain.count() == 3
            await plain.upsert([plane()[0]])
            assert names(await plain.query((1.0, 0.0, 0.0), 1)) == ["east"]

    async def test_an_empty_collection_answers(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            empty = await store.collection("empty")
            await empty.upsert([])
            assert await empty.query("anything") == []
            assert await empty.query((1.0, 0.0)) == []
            assert (await empty.count(), await empty.get(["x"]), await empty.delete(where={})) == (0, [], 0)

    async def test_texts_and_metadata_come_back_unchanged(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            odd = await store.collection("odd")
            values: dict[str, Any] = {"int": 2**53, "below": -(2**62), "float": 0.1, "bool": False, "str": "\u65e5{x}"}
            documents = [Document(f"odd {n} \u65e5", text, values) for n, text in enumerate(ODD_TEXTS)]
            await odd.upsert(documents)
            got = await odd.get([document.id for document in documents])
            assert got == documents
            assert [type(got[0].metadata[key]) for key in values] == [int, int, float, bool, str]
            assert len(await odd.query("braces", 100)) == len(ODD_TEXTS)

    async def test_a_reader_cannot_change_what_is_kept(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            mine = {"colour": "red"}
            await plain.upsert([Document("east", "", mine, (1.0, 0.0, 0.0))])
            mine["colour"] = "green"
            (found,) = await plain.query((1.0, 0.0, 0.0), 1)
            assert isinstance(found.document.metadata, dict)
            found.document.metadata["colour"] = "blue"
            assert await plain.get(["east"]) == [Document("east", "", {"colour": "red"})]

    @pytest.mark.parametrize(
        "bad",
        [
            [Document("bad", "", {}, (1.0, 0.0))],
            [Document("bad", "", {}, ())],
            [Document("bad", "", {}, (float("nan"), 0.0, 0.0))],
            [Document("bad", "", {}, (1.0, 0.0, 0.0)), Document("bad", "", {}, (1.0, 0.0, 0.0))],
            [Document("good", "", {}, (1.0, 0.0, 0.0)), Document("bad", "", {}, (1.0, 0.0))],
            [Document("good", "", {}, (1.0, 0.0, 0.0)), Document("bad", "a text of 256 numbers")],
            [Document("bad", "", {"list": [1]}, (1.0, 0.0, 0.0))],  # type: ignore[dict-item]
            [Document("bad", "", {"nan": float("nan")}, (1.0, 0.0, 0.0))],
            [Document("bad", "", {"large": 2**70}, (1.0, 0.0, 0.0))],
        ],
    )
    async def test_what_does_not_fit_is_named_and_nothing_is_written(
        self, open_it: OpenIt, bad: list[Document]
    ) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            await plain.upsert(plane())
            with pytest.raises(StoreError, match=r"bad|brings its vector"):
                await plain.upsert(bad)
            assert await plain.count() == len(PLANE)
            assert (await plain.get(["good", "bad"])) == []

    async def test_one_who_is_refused_does_not_touch_the_others(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            good = [plain.upsert([document]) for document in plane()]
            bad = [plain.upsert([Document(f"bad{n}", "", {}, (1.0, 0.0))]) for n in range(3)]
            ended = await asyncio.gather(*good, *bad, return_exceptions=True)
            assert [type(end) for end in ended] == [type(None)] * len(PLANE) + [StoreError] * 3
            assert await plain.count() == len(PLANE)

    @pytest.mark.parametrize("query", [(1.0, 0.0), (), (float("inf"), 0.0, 0.0)])
    async def test_a_query_of_another_length_is_refused(self, open_it: OpenIt, query: tuple[float, ...]) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            await plain.upsert(plane())
            with pytest.raises(StoreError):
                await plain.query(query)

    async def test_fewer_than_one_cannot_be_asked_for(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            with pytest.raises(StoreError, match="0 documents"):
                await (await store.collection("plane")).query("x", 0)

    async def test_fields_are_a_rule_for_every_document(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            ruled = await store.collection("ruled", fields={"agent": "str", "round": "int"})
            assert ruled.schema.fields == {"agent": "str", "round": "int"}
            await ruled.upsert(NOTES)
            unfit: tuple[dict[str, Any], ...] = (
                {"agent": "a"},
                {"agent": "a", "round": "1"},
                {"agent": "a", "round": True},
            )
            for metadata in unfit:
                with pytest.raises(StoreError, match=r"bad.*round"):
                    await ruled.upsert([Document("bad", "x", metadata)])
            assert await ruled.count() == len(NOTES)
            with pytest.raises(StoreError, match="fields"):
                await store.collection("ruled", fields={"agent": "str"})
            assert await store.collection("ruled") is ruled
            with pytest.raises(StoreError, match="complex"):
                await store.collection("other", fields={"agent": "complex"})

    async def test_the_schema_says_what_holds(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            assert plain.schema == Schema(None, store.embedder.name, {})
            await plain.upsert(plane())
            assert plain.schema == Schema(3, store.embedder.name, {})

    @pytest.mark.parametrize("name", ["", "ab", "a" * 64, "a b", "a/b", "\u65e5\u672c\u65e5"])
    async def test_a_name_is_checked(self, open_it: OpenIt, name: str) -> None:
        async with open_it() as store:
            with pytest.raises(StoreError):
                await store.collection(name)

    async def test_a_collection_is_one_object_however_many_ask_for_it(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            asked = await asyncio.gather(*(store.collection("notes") for _ in range(20)))
            assert all(one is asked[0] for one in asked)
            assert asked[0].name == "notes"

    async def test_collections_are_apart_and_can_be_dropped(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            one, other = await store.collection("one"), await store.collection("other")
            await one.upsert([Document("east", "", {}, (1.0, 0.0, 0.0))])
            await other.upsert([Document("east", "", {}, (1.0, 0.0))])
            assert await store.collections() == ["one", "other"]
            await store.drop("one")
            await store.drop("nobody")
            assert await store.collections() == ["other"]
            assert await other.count() == 1
            with pytest.raises(StoreError, match="dropped"):
                await one.count()
            fresh = await store.collection("one")
            assert await fresh.count() == 0
            await fresh.upsert([Document("east", "", {}, (1.0, 0.0, 0.0, 0.0))])

    async def test_what_was_acknowledged_is_seen_by_whoever_asks_next(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            notes = await store.collection("notes")

            async def one(n: int) -> bool:
                await notes.upsert([Document(f"note-{n}", f"task {n} is the matter of agent {n}", {"n": n})])
                mine = await notes.query(f"task {n} is the matter of agent {n}", 1, where={"n": n})
                return names(mine) == [f"note-{n}"] and len(await notes.get([f"note-{n}"])) == 1

            assert all(await asyncio.gather(*(one(n) for n in range(100))))
            assert await notes.count() == 100

    async def test_a_cancelled_task_disturbs_nobody(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            pairs = [[Document(f"{n}-{part}", "", {"n": n}, (1.0, float(n), 0.0)) for part in "ab"] for n in range(40)]
            tasks = [asyncio.create_task(plain.upsert(pair)) for pair in pairs]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await plain.upsert([Document("last", "", {}, (1.0, 0.0, 0.0))])
            for n, task in enumerate(tasks):
                there = await plain.count({"n": n})
                assert there in {0, 2} if task.cancelled() else there == 2

    async def test_closed_is_closed(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            notes = await store.collection("notes")
            await notes.upsert(NOTES)
        await store.aclose()
        for call in (notes.upsert(NOTES), notes.query("x"), notes.get(["cat"]), notes.count(), notes.delete(["cat"])):
            with pytest.raises(StoreError, match="closed"):
                await call
        with pytest.raises(StoreError, match="closed"):
            await store.collection("notes")

    async def test_closing_finishes_what_was_asked(self, open_it: OpenIt) -> None:
        async with open_it() as store:
            plain = await store.collection("plane")
            tasks = [asyncio.create_task(plain.upsert([document])) for document in plane()]
            await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [None] * len(PLANE)
        if self.durable:
            async with open_it() as again:
                assert await (await again.collection("plane")).count() == len(PLANE)

    async def test_what_was_kept_is_there_when_it_is_opened_again(self, open_it: OpenIt) -> None:
        if not self.durable:
            return
        async with open_it() as store:
            notes, plain = await store.collection("notes", fields={"agent": "str"}), await store.collection("plane")
            await notes.upsert(NOTES)
            await plain.upsert(plane())
            await plain.delete(["west"])
            before = await plain.query((0.5, 0.2, 0.1), 10, vectors=True)
            await store.collection("empty")
            await store.collection("gone")
            await store.drop("gone")
        async with open_it() as again:
            assert await again.collections() == ["empty", "notes", "plane"]
            notes, plain = await again.collection("notes"), await again.collection("plane")
            assert (notes.schema.dimensions, notes.schema.fields) == (256, {"agent": "str"})
            assert await notes.get([d.id for d in NOTES]) == list(NOTES)
            assert await plain.query((0.5, 0.2, 0.1), 10, vectors=True) == before
            assert names(await plain.query((1.0, 0.0, 0.0), 9, where={"colour": "red"})) == ["east", "northeast"]
            with pytest.raises(StoreError):
                await plain.upsert([Document("bad", "", {}, (1.0, 0.0))])

    async def test_vectors_of_two_embedders_do_not_mix(self, open_it: OpenIt) -> None:
        if not self.durable:
            return
        async with open_it() as store:
            await (await store.collection("notes")).upsert(NOTES)
        async with open_it(embedder=OtherEmbedder()) as other:
            with pytest.raises(StoreError, match="embedder"):
                await other.collection("notes")
            fresh = await other.collection("fresh")
            await fresh.upsert([Document("x", "a text")])
            assert fresh.schema.embedder == "other"
        async with open_it() as store:
            assert names(await (await store.collection("notes")).query("a kitten on the couch", 1)) == ["cat"]
