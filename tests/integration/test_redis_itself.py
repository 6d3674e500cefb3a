"""What a real Redis is asked, refuses and keeps."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from tests.integration.cutting_proxy import CuttingProxy
from tests.integration.shard_load import Owner, expected, jobs, read_all

from aurora_swarm import BatchAgent
from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.journal.open import open_journal
from aurora_swarm.journal.redis.journal import LEASE_S
from aurora_swarm.journal.redis.store import RedisShardStore
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.testing.faulty_server import OK, FaultyServer
from aurora_swarm.testing.redis_server import RedisServer
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.record import Record
from aurora_swarm.values.shard import Batch, Job, Result, RunPlan, Turn

SOON_S = 20.0
PLAN = RunPlan(run="r", shards=1, digest="d")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
        before = {name: client.config_get(name)[name] for name in ("maxmemory", "maxmemory-policy", "appendfsync")}
        yield client
        for name, value in before.items():
            client.config_set(name, value)


async def test_one_that_may_evict_is_refused(server: RedisServer, client: Any) -> None:
    client.config_set("maxmemory", "100mb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    for opening in (open_shards(server.url, PLAN), open_journal(server.url)):
        with pytest.raises(UsageError, match="throw away") as caught:
            await opening
        assert "noeviction" in caught.value.remedy
    client.config_set("maxmemory-policy", "noeviction")
    await (await open_shards(server.url, PLAN)).aclose()


async def test_what_a_crash_would_cost_is_noted(server: RedisServer, client: Any) -> None:
    store = await RedisShardStore.open(server.url, "r", PLAN)
    assert store.notes == ()
    client.config_set("appendfsync", "everysec")
    other = await RedisShardStore.open(server.url, "r", PLAN)
    assert "appendfsync always" in other.notes[0]
    for each in (store, other):
        await each.aclose()


async def test_a_full_one_refuses_whole_batches_and_goes_on_when_it_has_room(server: RedisServer, client: Any) -> None:
    store = await RedisShardStore.open(server.url, "r", PLAN)
    await store.admit([Job("a", 0, b""), Job("b", 1, b"")])
    claim = await store.claim(0, "me")
    assert claim is not None
    batch = Batch(turns=[Turn("a", 0, b"t")], results=[Result("b", b"r")])
    client.config_set("maxmemory", "100kb")
    with pytest.raises(StorageError, match="no memory left") as caught:
        await store.apply(claim, batch)
    assert "maxmemory" in caught.value.remedy
    assert [each.turns for each in await store.load(claim, 10)] == [(), ()]
    client.config_set("maxmemory", "0")
    await store.apply(claim, batch)
    assert [(each.job.key, each.turns) for each in await store.load(claim, 10)] == [("a", (b"t",))]
    await store.aclose()


async def test_a_password_is_needed_and_shown_nowhere(server: RedisServer, client: Any) -> None:
    client.config_set("requirepass", "s3cret")
    try:
        with pytest.raises(UsageError, match="refuses us"):
            await open_shards(server.url, PLAN)
        with pytest.raises(UsageError, match="refuses us") as caught:
            await open_shards(server.url.replace("unix://", "unix://:wr0ng@"), PLAN)
        assert "wr0ng" not in str(caught.value)
        store = await open_shards(server.url.replace("unix://", "unix://:s3cret@"), PLAN)
        await store.aclose()
        with pytest.raises(StorageError) as closed:
            await store.progress()
        assert "s3cret" not in str(closed.value)
    finally:
        client.execute_command("AUTH", "s3cret")
        client.config_set("requirepass", "")


async def test_writes_of_many_tasks_are_few_commands(server: RedisServer, client: Any) -> None:
    store = await RedisShardStore.open(server.url, "r", PLAN)
    jobs = [Job(f"{n}", n, b"p") for n in range(1_000)]
    await store.admit(jobs)
    claim = await store.claim(0, "me")
    assert claim is not None
    client.config_resetstat()
    await asyncio.gather(*(store.apply(claim, Batch(results=[Result(job.key, b"r")])) for job in jobs))
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] <= 20
    assert (await store.progress()).finished == 1_000
    await store.aclose()


async def test_what_has_a_result_is_kept_once_and_a_run_can_be_forgotten(server: RedisServer, client: Any) -> None:
    client.set("somebody's", "own")
    store = await RedisShardStore.open(server.url, "r", PLAN)
    other = await RedisShardStore.open(server.url, "r2", RunPlan(run="r2"))
    payload = os.urandom(5_000)
    await store.admit([Job(f"{n}", n, payload) for n in range(200)])
    claim = await store.claim(0, "me")
    assert claim is not None
    turns = [Turn(f"{n}", version, payload) for n in range(200) for version in (0, 1)]
    await store.apply(claim, Batch(begun=[f"{n}" for n in range(200)], turns=turns))
    full = sum(client.memory_usage(key, samples=0) for key in client.scan_iter("aurora:{r}:*"))
    await store.apply(claim, Batch(results=[Result(f"{n}", b"r") for n in range(200)]))
    left = sum(client.memory_usage(key, samples=0) for key in client.scan_iter("aurora:{r}:*"))
    assert full > 3 * 200 * 5_000
    assert left < 200 * 200
    await store.forget()
    assert list(client.scan_iter("aurora:{r}:*")) == []
    assert client.get("somebody's") == b"own"
    assert (await other.progress()).admitted == 0
    for each in (store, other):
        await each.aclose()


async def test_what_was_done_though_its_answer_was_lost_is_done_once(
    server: RedisServer, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    count, socket = 150, tmp_path_factory.mktemp("cut") / "s"
    proxy = CuttingProxy(Path(server.url.removeprefix("unix://")), share=0.2)
    async with proxy.at(socket):
        store = await RedisShardStore.open(f"unix://{socket}", "cut", RunPlan(run="cut", shards=8))
        admitted = [await store.admit(jobs(count)[first : first + 10]) for first in range(0, count, 10)]
        assert admitted == [10] * (count // 10)
        await store.close_admission()
        proxy.share = 0.1
        owner = Owner(store, "me")
        await asyncio.gather(owner.work(), owner.work())
        proxy.share = 0.0
        outputs = await read_all(store, count)
        await store.aclose()
    assert proxy.cuts >= 10
    assert sorted((output.index, output.result.payload) for output in outputs) == expected(count)
    assert max(owner.turns.values()) == 1
    assert owner.fenced == 0
    assert client.xlen("aurora:{cut}:out") == count


async def test_where_there_is_less_than_owners_each_has_its_turn(server: RedisServer, client: Any) -> None:
    store = await RedisShardStore.open(server.url, "r", RunPlan(run="r", shards=1, lease_s=0.1))
    parts, had = dict.fromkeys("abc", 0), set[str]()
    async with asyncio.timeout(SOON_S):
        while had != set(parts):
            for owner in parts:
                parts[owner] = await store.share("e", owner, held=0, want=5, total=1)
                assert sum(parts.values()) <= 1
            had |= {owner for owner, part in parts.items() if part}
            await asyncio.sleep(0.02)
    await store.aclose()


async def test_the_place_of_a_dead_owner_of_a_journal_is_taken(server: RedisServer, client: Any) -> None:
    place = f"{server.url}?journal=taken"
    code = (
        "import asyncio, sys; from aurora_swarm.journal.open import open_journal; "
        "from aurora_swarm.values.record import Record\n"
        "async def main():\n"
        "    journal = await open_journal(sys.argv[1]); await journal.append(Record('k', b'p'))\n"
        "    sys.stdout.write('there\\n'); sys.stdout.flush(); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, place, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(SOON_S):
        await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with asyncio.timeout(2 * LEASE_S):
        journal = await open_journal(place)
    assert dict(await journal.find(["k"])) == {"k": Record("k", b"p")}
    client.delete("aurora:{journal:taken}:meta")
    client.hset("aurora:{journal:taken}:meta", "token", "another run")
    with pytest.raises(StorageError, match="taken this journal over"):
        await journal.append(Record("l", b""))
    assert dict(await journal.find(["l"])) == {}
    await journal.aclose()


async def test_a_batch_is_resumed_from_a_journal_in_redis(server: RedisServer, client: Any) -> None:
    async def once() -> list[AgentResult[Any]]:
        return await BatchAgent.run(
            "Item {n}",
            [{"n": n} for n in range(20)],
            backend=[model.endpoint],
            journal=f"{server.url}?journal=items",
        )

    async with FaultyServer(OK) as model:
        first, again = await once(), await once()
    assert all(result.ok and not result.resumed for result in first)
    assert all(result.ok and result.resumed for result in again)
    assert client.hlen("aurora:{journal:items}:rec") >= 20
