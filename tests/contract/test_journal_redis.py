"""The journal in Redis keeps the contract of its port."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from aurora_swarm.journal.open import open_journal
from aurora_swarm.testing.journal_contract import Damage, JournalContract, JournalFactory
from aurora_swarm.testing.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class TestRedisJournal(JournalContract):
    @pytest.fixture
    def name(self, request: pytest.FixtureRequest) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)

    @pytest.fixture
    def journal_factory(self, redis_server: RedisServer, name: str) -> JournalFactory:
        return lambda: open_journal(f"{redis_server.url}?journal={name}")

    @pytest.fixture
    def damage(self, redis_server: RedisServer, name: str) -> Damage:
        def change_payload(key: str) -> None:
            with redis.Redis.from_url(redis_server.url) as client:
                records = f"aurora:{{journal:{name}}}:rec"
                value = client.hget(records, key)
                assert isinstance(value, bytes)
                client.hset(records, key, value + b"\0")  # type: ignore[arg-type]

        return change_payload
