"""The store in this process under ten thousand tasks, on bad disks, and beside other processes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from aurora_swarm.errors import StorageError, StoreHeldError
from aurora_swarm.memory import places
from aurora_swarm.memory.checking import normalised
from aurora_swarm.memory.open import open_store
from aurora_swarm.memory.sqlite_file import StoreFile
from aurora_swarm.ports.store import Document
from aurora_swarm.testing.virtual_time import run_virtual

TASKS = 10_000
HOLD = """
import asyncio, sys
from aurora_swarm.memory.open import open_store
async def main():
    async with open_store(sys.argv[1]):
        print("held", flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_ten_thousand_tasks_add_and_query_at_once_and_each_sees_its_own(tmp_path: Path) -> None:
    vectors = normalised(np.random.default_rng(1).normal(size=(TASKS, 64)))
    async with open_store(f"local://{tmp_path}") as store:
        notes = await store.collection("notes")

        async def one(n: int) -> tuple[bool, bool]:
            vector = tuple(vectors[n].tolist())
            await notes.upsert([Document(f"n{n:05}", "", {"group": n % 50}, vector)])
            (plain,) = await notes.query(vector, 1)
            (filtered,) = await notes.query(vector, 1, where={"group": n % 50})
            return plain.document.id == f"n{n:05}", filtered.document.id == f"n{n:05}"

        seen = await asyncio.gather(*(one(n) for n in range(TASKS)))
        assert (sum(plain for plain, _ in seen), sum(filtered for _, filtered in seen)) == (TASKS, TASKS)
        assert await notes.count() == TASKS
        await recall_is_one(notes, vectors)


async def recall_is_one(notes: object, vectors: np.ndarray) -> None:
    queries = normalised(np.random.default_rng(2).normal(size=(50, 64)))
    groups = np.arange(TASKS) % 50
    for number, query in enumerate(queries):
        scores = vectors.astype(np.float64) @ query.astype(np.float64)
        inside = np.flatnonzero(groups == number)
        for rows, where in ((np.arange(TASKS), None), (inside, {"group": number})):
            expected = {f"n{row:05}" for row in rows[np.argsort(-scores[rows])[:10]]}
            found = await notes.query(tuple(query.tolist()), 10, where=where)  # type: ignore[attr-defined]
            assert {match.document.id for match in found} == expected


async def test_many_tasks_share_few_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    write = StoreFile.write

    def counted(self: StoreFile, changes: object) -> None:
        commits.append(1)
        write(self, changes)  # type: ignore[arg-type]

    monkeypatch.setattr(StoreFile, "write", counted)
    async with open_store(f"local://{tmp_path}") as store:
        notes = await store.collection("notes")
        await asyncio.gather(*(notes.upsert([Document(str(n), "", {}, (1.0, float(n)))]) for n in range(1_000)))
    assert len(commits) <= 4


async def test_a_second_opener_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    url = f"local://{tmp_path}"
    async with open_store(url):
        with pytest.raises(StoreHeldError, match=str(os.getpid())):
            await open_store(url)
    async with open_store(url):
        pass


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has the store open."""
    command = [sys.executable, "-c", HOLD, f"local://{tmp_path}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


async def test_another_process_is_named_and_its_death_frees_the_store(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    url = f"local://{tmp_path}"
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreHeldError, match=f"process {holder.pid} ") as caught:
        await open_store(url)
    assert "store of your own" in caught.value.remedy
    holder.kill()
    holder.wait()
    async with open_store(url) as store:
        assert await store.collections() == []


async def test_after_a_failed_write_nothing_is_acknowledged_and_what_was_is_still_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: StoreFile, changes: object) -> None:
        raise StorageError("disk I/O error", path=str(self.path))

    url, one = f"local://{tmp_path}", Document("one", "", {}, (1.0, 0.0))
    async with open_store(url) as store:
        notes = await store.collection("notes")
        await notes.upsert([one])
        monkeypatch.setattr(StoreFile, "write", fails)
        ended = await asyncio.gather(
            *(notes.upsert([Document(str(n), "", {}, (1.0, 0.0))]) for n in range(5)), return_exceptions=True
        )
        assert [type(end) for end in ended] == [StorageError] * 5
        monkeypatch.undo()
        for call in (notes.upsert([one]), notes.delete(["one"]), store.collection("other"), store.drop("notes")):
            with pytest.raises(StorageError, match="I/O"):
                await call
        assert (await notes.query((1.0, 0.0), 5))[0].document.id == "one"
        assert await notes.count() == 1
    async with open_store(url) as store:
        assert await (await store.collection("notes")).count() == 1


async def test_a_full_disk_fails_the_write_and_keeps_what_was(tmp_path: Path) -> None:
    store = await open_store(f"local://{tmp_path}")
    notes = await store.collection("notes")
    await notes.upsert([Document("one", "", {}, (1.0, 0.0))])
    file = store._file  # type: ignore[attr-defined]
    pages = file._db.execute("PRAGMA page_count").fetchone()[0]
    file._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageError, match="full") as caught:
        await notes.upsert([Document(str(n), "x" * 10_000, {}, (1.0, 0.0)) for n in range(100)])
    assert "free space" in caught.value.remedy
    assert await notes.count() == 1
    await store.aclose()
    async with open_store(f"local://{tmp_path}") as again:
        assert await (await again.collection("notes")).count() == 1


@pytest.mark.parametrize("what", ["vector", "text", "metadata", "id"])
async def test_a_damaged_document_is_never_given_out(tmp_path: Path, what: str) -> None:
    url = f"local://{tmp_path}"
    async with open_store(url) as store:
        await (await store.collection("notes")).upsert([Document("one", "text", {"a": 1}, (1.0, 0.0))])
    with closing(sqlite3.connect(tmp_path / places.FILE_NAME)) as db, db:
        db.execute(f"UPDATE documents SET {what} = CAST({what} || x'20' AS BLOB)")
    with pytest.raises(StorageError, match="damaged") as caught:
        await open_store(url)
    assert caught.value.remedy
    assert not (tmp_path / f"{places.FILE_NAME}.lock").exists()


def test_it_runs_in_virtual_time(tmp_path: Path) -> None:
    async def main() -> list[str]:
        async with open_store(f"local://{tmp_path}") as store:
            notes = await store.collection("notes")
            async with asyncio.timeout(3_600):
                await asyncio.gather(*(notes.upsert([Document(str(n), f"note {n}")]) for n in range(50)))
                return [match.document.id for match in await notes.query("note 7", 1)]

    assert run_virtual(main()) == ["7"]


async def test_a_cancelled_opening_lets_go_of_the_file(tmp_path: Path) -> None:
    async def opens() -> None:
        await open_store(f"local://{tmp_path}")

    opening = asyncio.create_task(opens())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await (await open_store(f"local://{tmp_path}")).aclose()


async def test_half_a_character_comes_back_as_it_was(tmp_path: Path) -> None:
    odd = Document("half \ud83d", "and \udc00", {}, (1.0, 0.0))
    async with open_store(f"local://{tmp_path}") as store:
        await (await store.collection("notes")).upsert([odd])
    async with open_store(f"local://{tmp_path}") as store:
        assert await (await store.collection("notes")).get(["half \ud83d"], vectors=True) == [odd]


async def test_a_filter_deletes_what_was_there_when_its_turn_came(tmp_path: Path) -> None:
    async with open_store(f"local://{tmp_path}") as store:
        notes = await store.collection("notes")
        await notes.upsert([Document("a", "", {"x": 1}, (1.0,)), Document("b", "", {"x": 1}, (1.0,))])
        _, gone, _ = await asyncio.gather(
            notes.upsert([Document("a", "", {"x": 2}, (1.0,)), Document("c", "", {"x": 1}, (1.0,))]),
            notes.delete(where={"x": 1}),
            notes.upsert([Document("d", "", {"x": 1}, (1.0,))]),
        )
        assert gone == 2
        assert [d.id for d in await notes.get(["a", "b", "c", "d"])] == ["a", "d"]
    async with open_store(f"local://{tmp_path}") as store:
        assert [d.id for d in await (await store.collection("notes")).get(["a", "b", "c", "d"])] == ["a", "d"]
