"""Finding passages by their meaning and by their words: a collection of a vector store, and an index beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self

from aurora_swarm.memory.lexical import LexicalIndex, fused, words
from aurora_swarm.ports.embedder import Embedder
from aurora_swarm.ports.store import Collection, Document, Scalar

CANDIDATES = 50
"""How many each ranking names; so many of them together are read word by word."""

_BATCH = 512
"""Documents or words that are embedded at a time, so that others have their turn in between."""


class HybridSearch:
    """Texts that are searched together, in an order that never changes. Made by `open`.

    Args:
        collection: Holds them, under their positions as ids.
        embedder: The collection's.
        index: Of the same texts.
    """

    def __init__(self, collection: Collection, embedder: Embedder, index: LexicalIndex) -> None:
        self._collection = collection
        self._embedder = embedder
        self._index = index

    @classmethod
    async def open(
        cls,
        collection: Collection,
        embedder: Embedder,
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, Scalar]],
    ) -> Self:
        """Store texts, unless as many are there already, and index them.

        Args:
            collection: For these texts alone; what it holds is taken to be them when the count is right.
            embedder: The collection's.
            texts: In the order by which they are known.
            metadata: Of each; filters go by it.

        Raises:
            StoreError: The collection refuses them.
            StorageError: The store cannot be written.
        """
        index = await asyncio.to_thread(LexicalIndex, texts)
        if await collection.count() != len(texts):
            documents = [Document(str(n), *each) for n, each in enumerate(zip(texts, metadata, strict=True))]
            for first in range(0, len(documents), _BATCH):
                await collection.upsert(documents[first : first + _BATCH])
        return cls(collection, embedder, index)

    async def ranked(self, question: str, k: int) -> list[int]:
        """Positions of the `k` texts that answer a question best, best first.

        Args:
            question: In words of its own.
            k: How many at most.
        """
        limit = max(k, CANDIDATES)
        near = [int(match.document.id) for match in await self._collection.query(question, limit)]
        alike = self._index.ranked(question, limit)
        candidates = fused([near, alike])[:limit]
        asked = list(dict.fromkeys(words(question)))
        if not asked:
            return candidates[:k]
        likeness = await self._likeness(asked, candidates)
        return self._index.reread(asked, candidates, likeness)[:k]

    async def _likeness(self, asked: Sequence[str], candidates: Sequence[int]) -> dict[str, list[float]]:
        """How near each word of the candidates comes to each that is asked."""
        told = list(dict.fromkeys(word for position in candidates for word in self._index.words_of(position)))
        question = await self._embedder.embed(asked)
        likeness: dict[str, list[float]] = {}
        for first in range(0, len(told), _BATCH):
            batch = told[first : first + _BATCH]
            rows = (await self._embedder.embed(batch)) @ question.T
            likeness.update(zip(batch, rows.tolist(), strict=True))
        for place, word in enumerate(asked):
            if word in likeness:
                likeness[word][place] = 1.0  # also where the embedder knows nothing of it
        return likeness
