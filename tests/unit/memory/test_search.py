"""Texts are found by meaning and by words, and a word that the embedder does not know is still a word."""

import numpy as np
import pytest

from aurora_swarm.memory.open import open_store
from aurora_swarm.memory.search import HybridSearch
from aurora_swarm.ports.store import VectorStore

TEXTS = [
    "The pump in hall three was repaired in May.",
    "The pump in hall four was painted in June.",
    "The ledger is kept in the safe.",
    "Nothing happened in July.",
]


class Blind:
    """An embedder to which nothing means anything."""

    name = "blind"

    async def embed(self, texts):
        return np.zeros((len(texts), 4), dtype=np.float32)

    async def aclose(self) -> None:
        pass


async def opened(store: VectorStore, texts=TEXTS) -> HybridSearch:
    collection = await store.collection("texts")
    return await HybridSearch.open(collection, store.embedder, texts, [{"n": n} for n in range(len(texts))])


@pytest.mark.parametrize(
    ("question", "best"),
    [("Who fixed the pump?", 0), ("When was the pump coloured?", 1), ("Where are the accounts?", 2), ("July", 3)],
)
async def test_the_text_that_answers_comes_first(question: str, best: int) -> None:
    async with open_store("memory://") as store:
        search = await opened(store)
        found = await search.ranked(question, 2)
    assert found[0] == best
    assert len(found) == 2


async def test_words_are_found_where_the_embedder_knows_nothing() -> None:
    async with open_store("memory://", embedder=Blind()) as store:
        search = await opened(store)
        assert (await search.ranked("the xqz ledger", 1)) == [2]


async def test_a_question_without_words_still_gives_what_is_near() -> None:
    async with open_store("memory://") as store:
        search = await opened(store)
        assert len(await search.ranked("?!", 2)) == 2


async def test_each_text_is_found_once_however_many_are_wanted() -> None:
    async with open_store("memory://") as store:
        search = await opened(store)
        assert sorted(await search.ranked("the pump", 100)) == [0, 1, 2, 3]


async def test_what_is_stored_already_is_not_stored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store("memory://") as store:
        await opened(store)
        collection = await store.collection("texts")
        monkeypatch.setattr(collection, "upsert", None)
        search = await opened(store)
        assert (await search.ranked("ledger", 1)) == [2]
