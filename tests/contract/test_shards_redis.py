"""The store of shards in Redis keeps the contract of its port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from aurora_swarm.journal.redis.store import RedisShardStore
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.testing.redis_server import RedisServer
from aurora_swarm.testing.shards_contract import ShardsContract
from aurora_swarm.testing.shards_samples import ShardsFactory
from aurora_swarm.values.shard import RunPlan


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class TestRedisShards(ShardsContract):
    @pytest.fixture
    async def shards_factory(
        self, redis_server: RedisServer, request: pytest.FixtureRequest
    ) -> AsyncIterator[ShardsFactory]:
        async with AsyncExitStack() as stack:

            async def factory(plan: RunPlan | None = None) -> ShardStore:
                store = await RedisShardStore.open(redis_server.url, request.node.name, plan)
                stack.push_async_callback(store.aclose)
                return store

            yield factory
