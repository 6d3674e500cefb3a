"""The default embedder: what it says of texts, odd ones among them, and that it minds its own business."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import numpy as np
import pytest

from aurora_swarm.errors import StoreError
from aurora_swarm.memory.embedders.wordllama import WordLlamaEmbedder


async def test_texts_of_like_meaning_are_near() -> None:
    embedder = WordLlamaEmbedder()
    cat, kitten, market = await embedder.embed(["the cat sleeps", "a kitten is asleep", "shares fell on the market"])
    assert cat @ kitten > 0.4 > 0.2 > cat @ market
    await embedder.aclose()
    await embedder.aclose()
    with pytest.raises(StoreError, match="closed"):
        await embedder.embed(["x"])


async def test_vectors_have_length_one_and_those_of_nothing_are_zero() -> None:
    embedder = WordLlamaEmbedder()
    made = await embedder.embed(["words", "", "  \n", "half \ud83d of one", "x" * 100_000, "\u65e5\u672c\u8a9e"])
    assert (made.shape, made.dtype) == ((6, 256), np.float32)
    assert np.linalg.norm(made, axis=1) == pytest.approx([1, 0, 0, 1, 1, 1], abs=1e-6)
    assert (await embedder.embed([])).shape == (0, 256)
    await embedder.aclose()


async def test_a_text_has_one_vector_whatever_else_is_asked_at_the_same_time() -> None:
    embedder = WordLlamaEmbedder()
    texts = [f"note {n} " * (1 + n % 40) for n in range(600)]
    (alone,) = await embedder.embed([texts[77]])
    together = await embedder.embed(texts)
    by_many = await asyncio.gather(*(embedder.embed([text]) for text in texts))
    assert np.array_equal(alone, together[77])
    assert np.array_equal(together, np.concatenate(by_many))
    await embedder.aclose()


def test_it_leaves_the_programs_logging_alone() -> None:
    script = (
        "import asyncio, logging\n"
        "from aurora_swarm.memory.embedders.wordllama import WordLlamaEmbedder\n"
        "asyncio.run(WordLlamaEmbedder().embed(['x']))\n"
        "assert not logging.root.handlers and logging.root.level == logging.WARNING\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert logging.root is not None
