"""Static word embeddings whose weights come with the package: no download, no torch, ten thousand texts a second."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from aurora_swarm.errors import ModelUnavailableError
from aurora_swarm.memory.checking import Vectors, normalised
from aurora_swarm.memory.gathering import Gathering

DIMENSIONS = 256
_TEXTS_AT_ONCE = 256
_TOKENS_AT_ONCE = 16_384


class WordLlamaEmbedder:
    """Embeds texts with wordllama, off the event loop, the texts of many tasks at a time.

    The weights are read when the first text comes. Belongs to one event loop.
    """

    def __init__(self) -> None:
        self.name = f"wordllama-l2_supercat-{DIMENSIONS}"
        self._model: Any = None
        self._thread = ThreadPoolExecutor(1, "aurora-swarm-embed")
        self._texts: Gathering[Sequence[str], Vectors] = Gathering(
            self._embed, most=_TEXTS_AT_ONCE, name="the embedder"
        )

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, in their order; zeros for a text without words.

        Raises:
            ModelUnavailableError: wordllama is not installed, or its weights are not in its folder.
            StoreError: It is closed.
        """
        if not texts:
            return np.empty((0, DIMENSIONS), dtype=np.float32)
        return await self._texts(texts)

    async def aclose(self) -> None:
        """Release the thread. May be called twice."""
        await self._texts.aclose()
        self._thread.shutdown(wait=False)

    async def _embed(self, asked: list[Sequence[str]]) -> list[Vectors]:
        texts = [text for some in asked for text in some]
        made = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedded, texts)
        ends = np.cumsum([len(some) for some in asked])[:-1]
        return np.split(made, ends)

    def _embedded(self, texts: list[str]) -> Vectors:
        if self._model is None:
            self._model = loaded()
        sums = np.empty((len(texts), DIMENSIONS), dtype=np.float64)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = [text.encode("utf-8", "replace").decode() for text in texts[start : start + _TEXTS_AT_ONCE]]
            for place, encoded in enumerate(self._model.tokenizer.encode_batch(part, add_special_tokens=False), start):
                sums[place] = self._sum(encoded.ids if texts[place].strip() else [])
        return normalised(sums)

    def _sum(self, tokens: list[int]) -> Vectors:
        """The sum over a text's tokens, in slices, so that a long text takes little room."""
        weights: Vectors = self._model.embedding
        total: Vectors = np.zeros(DIMENSIONS, dtype=np.float32)
        for start in range(0, len(tokens), _TOKENS_AT_ONCE):
            places = np.array(tokens[start : start + _TOKENS_AT_ONCE], dtype=np.intp)
            total += weights[places.clip(max=len(weights) - 1)].sum(axis=0)
        return total


@functools.lru_cache(maxsize=1)
def loaded() -> Any:
    """The model, which nothing changes: one for all embedders of a process."""
    found = importlib.util.find_spec("wordllama")
    if found is None or found.origin is None:
        raise ModelUnavailableError(
            "the default embedder, wordllama, is not installed",
            remedy="pip install 'aurora-swarm[memory]', or give open_store an embedder",
        )
    handlers, level = list(logging.root.handlers), logging.root.level
    try:
        model: Any = importlib.import_module("wordllama").WordLlama.load(
            dim=DIMENSIONS, cache_dir=Path(found.origin).parent, disable_download=True
        )
    except (ImportError, OSError, ValueError) as error:
        raise ModelUnavailableError(
            f"wordllama could not be loaded: {error}", remedy="install it anew: pip install --force-reinstall wordllama"
        ) from error
    finally:
        # Importing it configures logging for the whole program, which is not its to do.
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    model.tokenizer.no_padding()
    return model
