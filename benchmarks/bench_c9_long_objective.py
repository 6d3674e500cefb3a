"""C9: are facts found in a text of 100,000 tokens, and do answers cite the chunks that they come from?"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wordllama

import harness
from aurora_swarm.memory.embedders.wordllama import WordLlamaEmbedder
from aurora_swarm.memory.lexical import LexicalIndex, fused
from aurora_swarm.memory.open import open_store
from aurora_swarm.swarms.cited_answers import CitedAnswer, cited_answer
from aurora_swarm.swarms.long_objective import LongObjective
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.testing.haystack import Fact, Haystack, haystack

TOKENS, FACTS, TOP, CANDIDATES = 100_000, 20, 4, 50

OPTIONS = harness.arguments(__doc__)
SEEDS = 2 if OPTIONS.quick else 10
QUESTIONS = 3 if OPTIONS.quick else 10

TOKENIZER: Any = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True).tokenizer


def count(text: str) -> int:
    """Tokens as Llama 2 counts them."""
    return len(TOKENIZER.encode(text, add_special_tokens=False).ids)


class Found:
    """Facts among the first passages, by how they are searched.

    Args:
        objective: What is searched.
        embedder: Of its passages.
    """

    def __init__(self, objective: LongObjective, embedder: WordLlamaEmbedder) -> None:
        self._objective = objective
        self._embedder = embedder
        self._texts = [passage.text for passage in objective.passages]
        self._index = LexicalIndex(self._texts)

    async def by_way(self, facts: Sequence[Fact]) -> dict[str, int]:
        """How many of the facts stand in the first passages."""
        matrix = await self._embedder.embed(self._texts)
        seen = dict.fromkeys(("vectors alone", "words alone (BM25)", "both, fused", "as shipped"), 0)
        for fact in facts:
            [question] = await self._embedder.embed([fact.question])
            near = (-(matrix @ question)).argsort()[:CANDIDATES].tolist()
            alike = self._index.ranked(fact.question, CANDIDATES)
            shipped = [passage.number - 1 for passage in await self._objective.relevant(fact.question, TOP)]
            for name, ranking in zip(seen, (near, alike, fused([near, alike]), shipped), strict=True):
                seen[name] += any(fact.sentence in self._texts[position] for position in ranking[:TOP])
        return seen


async def answered(objective: LongObjective, facts: Sequence[Fact]) -> list[CitedAnswer]:
    """The embedded model's answers."""
    async with OpenAI(base_url="local://", temperature=0, max_tokens=160).opened() as mind:
        return [await cited_answer(objective, fact.question, mind, max_chars=160) for fact in facts]


def says(objective: LongObjective, fact: Fact, answer: CitedAnswer) -> tuple[bool, bool, bool]:
    """Whether every citation is there, whether one is of the chunk with the fact, and whether the answer has it."""
    cited = [objective.chunks[number - 1] for number in answer.chunks]
    right = any(chunk.start <= fact.start < chunk.end for chunk in cited)
    return objective.citations(answer.text).ok, right, fact.answer in answer.text


def text_of(seed: int) -> Haystack:
    """A text of at least as many tokens as are wanted; counted in one piece it has fewer than sentence by sentence."""
    return haystack(seed, TOKENS * 11 // 10, FACTS, count=count)


async def measure() -> harness.Report:
    """Texts, passages, answers."""
    report = harness.Report(
        "c9_long_objective",
        "C9",
        "Are single facts found in a text of 100,000 tokens, and do answers cite the chunks that they come from?",
        f"{SEEDS} texts, each with {FACTS} facts among thousands of sentences that have their words; questions are in "
        f"other words. A fact is found when its sentence stands in the first {TOP} passages. Embedded with wordllama, "
        "which is in its wheel; tokens as Llama 2 counts them.",
        ("search", "found of 20, mean", "least"),
    )
    embedder = WordLlamaEmbedder()
    found: list[dict[str, int]] = []
    lengths, longest, passages = [], 0, 0
    async with open_store("memory://", embedder=embedder) as store:
        for seed in range(SEEDS):
            hay = text_of(seed)
            lengths.append(count(hay.text))
            async with LongObjective.open(hay.text, store, count=count) as objective:
                longest = max(longest, *(count(hay.text[each.start : each.end]) for each in objective.chunks))
                passages = max(passages, len(objective.passages))
                found.append(await Found(objective, embedder).by_way(hay.facts))
                if seed == 0:
                    facts = hay.facts[:QUESTIONS]
                    answers = await answered(objective, facts)
                    marks = [says(objective, *each) for each in zip(facts, answers, strict=True)]
    for name in found[0]:
        report.row(name, statistics.mean(each[name] for each in found), min(each[name] for each in found))
    least = min(each["as shipped"] for each in found)
    report.goal("tokens of the shortest text", min(lengths), at_least=TOKENS)
    report.goal("tokens of the longest chunk", longest, at_most=8_000)
    report.goal(f"facts of {FACTS} in the first {TOP} passages, least of all texts", least, at_least=18)
    given = sum(answer.ok for answer in answers)
    report.goal(
        "answers of the embedded model without a citation, or with one of no chunk",
        given - sum(mark[0] for mark in marks),
        at_most=0,
    )
    report.notes.append(
        f"The embedded model, {len(answers)} questions of one text: {given} answers, of which "
        f"{sum(mark[1] for mark in marks)} cite the chunk with the fact and {sum(mark[2] for mark in marks)} say it. "
        "It has 135 million parameters; the passages that it was shown hold the fact."
    )
    report.notes.append(f"Up to {passages:,} passages of at most 48 tokens.")
    return report


if __name__ == "__main__":
    harness.publish(asyncio.run(measure()), quick=OPTIONS.quick)
