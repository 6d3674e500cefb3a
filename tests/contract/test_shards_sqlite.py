from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from aurora_swarm.journal.sqlite_shards import SqliteShardStore
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.testing.shards_contract import ShardsContract
from aurora_swarm.testing.shards_samples import ShardsFactory
from aurora_swarm.values.shard import RunPlan


class TestSqlite(ShardsContract):
    @pytest.fixture
    async def shards_factory(self, tmp_path: Path) -> AsyncIterator[ShardsFactory]:
        async with AsyncExitStack() as stack:

            async def factory(plan: RunPlan | None = None) -> ShardStore:
                store = await SqliteShardStore.open(tmp_path / "run.store", "run", plan)
                stack.push_async_callback(store.aclose)
                return store

            yield factory
