from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from aurora_swarm.errors import JournalError, JournalForeignError, StorageError, UsageError
from aurora_swarm.journal import sqlite_shards_schema
from aurora_swarm.journal.sqlite import SqliteJournal
from aurora_swarm.journal.sqlite_shards import SqliteShardStore
from aurora_swarm.values.shard import Batch, Job, Result, RunPlan, Turn

PLAN = RunPlan(run="run", shards=1, lease_s=30.0)
JOB = Job("k", 0, b"payload")


async def opened(path: Path, run: str = "run", *, patience_s: float = 5.0) -> SqliteShardStore:
    return await SqliteShardStore.open(path, run, PLAN, patience_s=patience_s)


async def test_a_run_is_found_again(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.admit([JOB])
    claim = await store.claim(0, "a")
    assert claim
    await store.apply(claim, Batch(turns=[Turn("k", 0, b"t")]))
    await store.aclose()
    store = await SqliteShardStore.open(tmp_path / "s", "run")
    assert store.plan == PLAN
    assert [unfinished.turns for unfinished in await store.load(claim, 1)] == [(b"t",)]
    await store.aclose()
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


async def test_a_file_holds_several_runs_that_do_not_see_each_other(tmp_path: Path) -> None:
    one, two = await opened(tmp_path / "s", "one"), await opened(tmp_path / "s", "two")
    await one.admit([JOB])
    claim, other = await one.claim(0, "a"), await two.claim(0, "b")
    assert claim
    assert other
    await one.apply(claim, Batch(results=[Result("k", b"r")]))
    assert await two.load(other, 10) == []
    assert await two.outputs() == []
    assert (await two.progress()).admitted == 0
    assert await two.share("e", "b", held=0, want=9, total=8) == 8
    assert await one.share("e", "a", held=0, want=9, total=8) == 8
    await one.aclose()
    await two.aclose()


async def test_what_is_no_job_of_the_shard_is_refused_whole(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.admit([JOB])
    claim = await store.claim(0, "a")
    assert claim
    with pytest.raises(UsageError, match="no job of shard 0"):
        await store.apply(claim, Batch(results=[Result("k", b"r"), Result("unknown", b"r")]))
    assert await store.outputs() == []
    with pytest.raises(UsageError, match="no shard 1"):
        await store.claim(1, "a")
    await store.aclose()


async def test_turns_of_what_has_a_result_are_not_kept(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    await store.admit([JOB])
    claim = await store.claim(0, "a")
    assert claim
    await store.apply(claim, Batch(turns=[Turn("k", 0, b"t")]))
    await store.apply(claim, Batch(turns=[Turn("k", 1, b"t")], results=[Result("k", b"r")]))
    await store.aclose()
    with closing(sqlite3.connect(tmp_path / "s")) as db:
        assert db.execute("SELECT count(*) FROM turns").fetchone() == (0,)


async def test_leases_end_with_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await opened(tmp_path / "s")
    assert await store.claim(0, "a")
    assert await store.begin_answer("k", "a")
    assert await store.share("e", "a", held=0, want=8, total=8) == 8
    other = await opened(tmp_path / "s")
    assert await other.claim(0, "b") is None
    await other.aclose()
    boot = tmp_path / "boot"
    boot.write_text("another\n")
    monkeypatch.setattr(sqlite_shards_schema, "_BOOT", boot)
    other = await opened(tmp_path / "s")
    assert await other.claim(0, "b")
    assert await other.begin_answer("k", "b")
    assert await other.share("e", "b", held=0, want=8, total=8) == 8
    await other.aclose()
    await store.aclose()


async def test_what_is_not_ours_is_refused_and_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"a letter")
    with pytest.raises(JournalForeignError) as caught:
        await opened(path)
    assert caught.value.remedy
    assert path.read_bytes() == b"a letter"
    await (await SqliteJournal.open(tmp_path / "journal")).aclose()
    with pytest.raises(JournalForeignError):
        await opened(tmp_path / "journal")
    with closing(sqlite3.connect(tmp_path / "other")) as db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(JournalForeignError):
        await opened(tmp_path / "other")


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    await (await opened(tmp_path / "s")).aclose()
    with closing(sqlite3.connect(tmp_path / "s")) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(JournalForeignError, match="format 99"):
        await opened(tmp_path / "s")


async def test_an_empty_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    await (await opened(tmp_path / "s")).aclose()


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {tmp_path} nfs4 rw 0 0\n")
    monkeypatch.setattr(sqlite_shards_schema, "_MOUNTS", mounts)
    with pytest.raises(JournalError, match="nfs4"):
        await opened(tmp_path / "s")
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("place", ["", "missing/s"])
async def test_a_place_that_holds_no_file_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(JournalError) as caught:
        await opened(tmp_path / place)
    assert caught.value.remedy


async def test_a_run_that_nobody_made_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        await SqliteShardStore.open(tmp_path / "s", "run")
    assert list(tmp_path.iterdir()) == []


async def test_one_who_keeps_others_from_writing_is_waited_for_within_the_patience(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s", patience_s=0.5)
    with closing(sqlite3.connect(tmp_path / "s", isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(StorageError, match="other processes") as caught:
            await store.admit([JOB])
        assert 0.5 <= time.monotonic() - began < 5
        assert caught.value.remedy
        admitting = asyncio.create_task(store.admit([JOB]))
        await asyncio.sleep(0.1)
        assert not admitting.done()
        blocker.execute("ROLLBACK")
    assert await admitting == 1
    await store.aclose()


async def test_processes_that_make_the_same_run_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from aurora_swarm.journal.sqlite_shards import SqliteShardStore\n"
        "from aurora_swarm.values.shard import Job, RunPlan\n"
        "async def main():\n"
        "    store = await SqliteShardStore.open(sys.argv[1], 'run', RunPlan(run='run', shards=4))\n"
        "    print(await store.admit([Job(f'{n}', n, b'') for n in range(500)]))\n"
        "    await store.aclose()\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]  # noqa: ASYNC220
    new = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(new) == 500
    store = await SqliteShardStore.open(tmp_path / "s", "run")
    assert (await store.progress()).admitted == 500
    await store.aclose()


async def test_opening_that_is_cancelled_lets_go(tmp_path: Path) -> None:
    opening = asyncio.create_task(opened(tmp_path / "s"))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await (await opened(tmp_path / "s")).aclose()


async def test_closing_frees_the_calls_that_were_begun_and_ends_who_waits(tmp_path: Path) -> None:
    store, other = await opened(tmp_path / "s"), await opened(tmp_path / "s")
    assert await store.begin_answer("k", "a")
    waiting = asyncio.create_task(store.outputs(wait_s=60))
    elsewhere = asyncio.create_task(other.await_answer("k", 60))
    await asyncio.sleep(0.05)
    await store.aclose()
    with pytest.raises(StorageError):
        await waiting
    assert await asyncio.wait_for(elsewhere, 5) is None
    assert await other.begin_answer("k", "b")
    await other.aclose()


async def test_what_another_process_writes_is_noticed_soon(tmp_path: Path) -> None:
    store, other = await opened(tmp_path / "s"), await opened(tmp_path / "s")
    await store.admit([JOB])
    claim = await store.claim(0, "a")
    assert claim
    waiting = asyncio.create_task(other.outputs(wait_s=60))
    await asyncio.sleep(0.3)  # its pauses are at their longest
    await store.apply(claim, Batch(results=[Result("k", b"r")]))
    began = time.monotonic()
    assert len(await waiting) == 1
    assert time.monotonic() - began < 1.0
    await store.aclose()
    await other.aclose()


async def test_what_cannot_be_kept_fails_alone(tmp_path: Path) -> None:
    store = await opened(tmp_path / "s")
    asked = [store.admit([Job(f"{n}", n if n != 3 else 2**70, b"")]) for n in range(6)]
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert [end for n, end in enumerate(ended) if n != 3] == [1] * 5
    assert isinstance(ended[3], StorageError)
    assert ended[3].remedy
    assert (await store.progress()).admitted == 5
    await store.aclose()


async def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    code = (
        "import asyncio, resource, sys\n"
        "from aurora_swarm.errors import StorageError\n"
        "from aurora_swarm.journal.sqlite_shards import SqliteShardStore\n"
        "from aurora_swarm.values.shard import Job, RunPlan\n"
        "async def main():\n"
        "    store = await SqliteShardStore.open(sys.argv[1], 'run', RunPlan(run='run', shards=4))\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
        "    done = 0\n"
        "    try:\n"
        "        while True:\n"
        "            done += await store.admit([Job(f'{done}', done, b'x' * 5_000)])\n"
        "    except StorageError as error:\n"
        "        print(done, bool(error.remedy))\n"
        "    await store.aclose()\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()  # noqa: ASYNC221
    assert said[1] == "True"
    store = await SqliteShardStore.open(tmp_path / "s", "run")
    assert (await store.progress()).admitted == int(said[0]) > 5
    await store.aclose()
