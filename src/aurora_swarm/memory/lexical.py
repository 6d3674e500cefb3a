"""Ranking texts by the words that they share with a question, exactly or nearly, and putting rankings together. Pure.

Embeddings of passages find what a text is about and lose the one word that matters, above all those of small embedders,
which are means over words. Word counts are the other way round: they know nothing of words that mean the same. So
texts that either of them likes are candidates, by reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009) of the
embeddings' ranking and that of BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond",
2009). Candidates are then read word by word: each word of the question counts by its rarity and by how near the nearest
word of the text comes to it, the late interaction of Khattab and Zaharia ("ColBERT", 2020).
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

_SATURATION, _LENGTH = 1.2, 0.75
"""How soon more of the same word stops counting, and how far long texts are held back: the usual values."""

_SMOOTHING = 60
"""Of the fusion, as in its paper: the first place of a ranking is worth a little more than the second."""

_WORD = re.compile(r"\w+")


class LexicalIndex:
    """Texts by their words.

    Args:
        texts: What is ranked; known by their positions.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(words(text)) for text in texts]
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for position, each in enumerate(self._counts):
            for word, times in each.items():
                self._postings[word].append((position, times))
        lengths = [each.total() for each in self._counts]
        mean = sum(lengths) / len(lengths) if any(lengths) else 1.0
        self._held_back = [_SATURATION * (1 - _LENGTH + _LENGTH * length / mean) for length in lengths]

    def ranked(self, question: str, k: int) -> list[int]:
        """Positions of the `k` texts that share most with the question, best first, equals in their order.

        Args:
            question: Any text.
            k: How many at most; texts that share no word are never among them.
        """
        scores: defaultdict[int, float] = defaultdict(float)
        for word in dict.fromkeys(words(question)):
            weight = self.weight(word)
            for position, times in self._postings.get(word, ()):
                scores[position] += weight * times * (_SATURATION + 1) / (times + self._held_back[position])
        return heapq.nsmallest(k, scores, key=lambda position: (-scores[position], position))

    def weight(self, word: str) -> float:
        """How much a word tells: the fewer texts have it the more, and most where none has."""
        having = len(self._postings.get(word, ()))
        return math.log(1 + (len(self._counts) - having + 0.5) / (having + 0.5))

    def words_of(self, position: int) -> Iterable[str]:
        """The different words of a text."""
        return self._counts[position].keys()

    def reread(
        self, asked: Sequence[str], candidates: Iterable[int], likeness: Mapping[str, Sequence[float]]
    ) -> list[int]:
        """Candidates by how well every word of a question is met by some word of theirs, best first, equals as given.

        Args:
            asked: The question's words.
            candidates: Positions of texts.
            likeness: For every word of the candidates how near it comes to each word of `asked`, in their order; 1 is
                the same.
        """
        weights = [self.weight(word) for word in asked]

        def met(position: int) -> float:
            rows = [likeness[word] for word in self.words_of(position)]
            return math.fsum(weight * max(near) for weight, near in zip(weights, zip(*rows, strict=True), strict=True))

        return sorted(candidates, key=lambda position: -met(position) if self._counts[position] else math.inf)


def words(text: str) -> list[str]:
    """The words of a text as they are compared, in its order."""
    return _WORD.findall(text.casefold())


def fused(rankings: Iterable[Sequence[KeyT]]) -> list[KeyT]:
    """One ranking of several, best first: what stands high in any of them stands high, higher where they agree.

    Args:
        rankings: Each best first, without doubles. Equals come in the order in which they are first met.
    """
    scores: defaultdict[KeyT, float] = defaultdict(float)
    for ranking in rankings:
        for place, key in enumerate(ranking, 1):
            scores[key] += 1 / (_SMOOTHING + place)
    return sorted(scores, key=lambda key: -scores[key])
