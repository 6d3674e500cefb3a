"""Texts become vectors in the order of the texts, whatever servers do with requests."""

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import AgentEndpoint, EmbeddingPool, errors
from aurora_swarm.aggregators import semantic_groups
from aurora_swarm.patterns.embedding import scatter_gather_embeddings
from aurora_swarm.pools.embedding_pool import shares
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.reply import Embeddings, Usage


class Embedder(ScriptedTransport):
    """Vectors of a text's length and number; refuses texts that say so, and whatever `down` names."""

    def __init__(self, *, down=(), most=10_000, delay_s=0.1):
        super().__init__(lambda call, endpoint: "unused")
        self.down, self.most, self.delay_s = down, most, delay_s
        self.requests = []

    async def embed(self, endpoint, texts, *, model, timeout_s):
        self.requests.append((endpoint.host, tuple(texts)))
        await asyncio.sleep(self.delay_s)
        if endpoint.host in self.down:
            raise errors.ConnectError("refused", endpoint=endpoint.url)
        if len(texts) > self.most or any("bad" in text for text in texts):
            raise errors.RequestRejectedError("no", endpoint=endpoint.url, status=422)
        vectors = tuple((float(len(text)), float(text.split()[-1])) for text in texts)
        return Embeddings(vectors, Usage(prompt_tokens=sum(map(len, texts))), model)


def on_embedders(use, *, n=4, **options):
    endpoints = [AgentEndpoint(f"node{i}", 8000, {"rack": str(i % 2)}) for i in range(n)]
    embedder = Embedder(**{k: options.pop(k) for k in ("down", "most", "delay_s") if k in options})

    async def main():
        async with EmbeddingPool(endpoints, "e5", transport=embedder, **options) as pool:
            return await use(pool)

    return run_virtual(main()), embedder.requests


@given(st.integers(0, 400), st.integers(1, 64), st.integers(1, 5))
def test_every_text_has_its_own_vector(count, batch_size, n):
    texts = [f"text {i}" for i in range(count)]
    responses, requests = on_embedders(lambda pool: scatter_gather_embeddings(pool, texts), n=n, batch_size=batch_size)
    assert [r.embedding for r in responses] == [(float(len(t)), float(i)) for i, t in enumerate(texts)]
    assert [r.index for r in responses] == list(range(count))
    assert sum(r.usage.prompt_tokens for r in responses) == sum(map(len, texts))
    assert sorted(text for _, sent in requests for text in sent) == sorted(texts)
    assert max((len(sent) for _, sent in requests), default=0) <= batch_size


def test_texts_travel_together_and_all_endpoints_work():
    responses, requests = on_embedders(lambda pool: pool.embed_all([f"text {i}" for i in range(256)]))
    assert len(requests) == 8
    assert {host for host, _ in requests} == {"node0", "node1", "node2", "node3"}
    assert {r.model for r in responses} == {"e5"}
    assert all(r.success and r.error is None and r.attempts == 1 for r in responses)


def test_dead_endpoints_cost_no_text():
    responses, _ = on_embedders(lambda pool: pool.embed_all([f"text {i}" for i in range(300)]), down=("node1", "node2"))
    assert all(r.success for r in responses)
    assert {r.endpoint.host for r in responses} == {"node0", "node3"}
    assert [r.agent_index for r in responses] == [int(r.endpoint.host[4:]) for r in responses]


def test_a_bad_text_fails_alone():
    texts = [f"{'bad' if i == 37 else 'text'} {i}" for i in range(100)]
    responses, _ = on_embedders(lambda pool: pool.embed_all(texts))
    assert [r.index for r in responses if not r.success] == [37]
    assert responses[37].embedding is None
    assert isinstance(responses[37].error, errors.RequestRejectedError)


def test_a_server_that_takes_fewer_texts_gets_fewer():
    responses, requests = on_embedders(lambda pool: pool.embed_all([f"t {i}" for i in range(64)]), n=1, most=8)
    assert all(r.success for r in responses)
    assert sum(len(sent) <= 8 for _, sent in requests) == 8


def test_one_text_goes_to_the_endpoint_that_is_named_or_elsewhere_when_that_fails():
    async def use(pool):
        with pytest.raises(errors.UsageError, match="agent_index 4 is out of range"):
            await pool.embed_one(4, "text 1")
        return [await pool.embed_one(place, "text 7") for place in range(4)]

    responses, _ = on_embedders(use, down=("node2",))
    assert [r.agent_index for r in responses][:2] == [0, 1]
    assert responses[2].success
    assert responses[2].agent_index != 2
    assert [a.endpoint.host for a in responses[2].failures] == ["node2"]
    assert {r.embedding for r in responses} == {(6.0, 7.0)}


def test_parts_are_embedding_pools_on_the_same_runtime():
    async def use(pool):
        rack = pool.by_tag("rack", "1")
        assert isinstance(rack, EmbeddingPool)
        assert rack.runtime is pool.runtime
        assert (rack.size, pool.sample(2).size, pool.slice(1, 3).size, pool.select([3]).size) == (2, 2, 2, 1)
        responses = await rack.embed_all([f"text {i}" for i in range(80)])
        return {r.endpoint.host for r in responses}, rack.statistics()

    (hosts, statistics), _ = on_embedders(use)
    assert hosts == {"node1", "node3"}
    assert sum(each.succeeded for each in statistics.endpoints) == 4


def test_cancelling_ends_every_request():
    async def use(pool):
        run = asyncio.ensure_future(pool.embed_all([f"text {i}" for i in range(100)]))
        await asyncio.sleep(0.05)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return pool.statistics().outstanding

    assert on_embedders(use)[0] == 0


def test_numbers_are_checked():
    with pytest.raises(errors.UsageError, match="batch_size is 0"):
        EmbeddingPool([AgentEndpoint("node", 1)], "e5", batch_size=0)
    with pytest.raises(errors.NoEndpointsError):
        EmbeddingPool([], "e5")


def test_vectors_are_what_agreement_is_measured_on():
    async def use(pool):
        responses = await pool.embed_all(["aaaa 100", "aaaaaaaaaaaaaa 0", "bbbb 99"])
        return semantic_groups([r.embedding for r in responses])

    assert on_embedders(use)[0] == [[0, 2], [1]]


@given(st.integers(0, 10_000), st.lists(st.integers(0, 500), max_size=50))
def test_shares_add_up_and_follow_the_lengths(total, lengths):
    parts = shares(total, lengths)
    assert len(parts) == len(lengths)
    assert sum(parts) == (total if sum(lengths) else 0)
    for part, length in zip(parts, lengths, strict=True):
        assert abs(part - total * length / max(sum(lengths), 1)) < 1 or math.isclose(part, total)
