"""URLs of stores: what each opens, and one clear error for each that opens nothing."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from aurora_swarm.errors import AuroraSwarmError, StoreError
from aurora_swarm.memory import places
from aurora_swarm.memory.open import open_store
from aurora_swarm.ports.store import Document


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "no URL"),
        ("notes", "no URL"),
        ("redis://localhost", "no kind of vector store"),
        ("local://", "names no folder"),
        ("local://a\0b", "names no folder"),
        ("chroma://", "names no Chroma server"),
        ("chroma://host:port", "names no Chroma server"),
        ("chroma://host:1/path", "names no Chroma server"),
    ],
)
async def test_a_bad_url_is_refused_with_a_remedy(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem) as caught:
        await open_store(url)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("place", "file"),
    [("deep/folder", "deep/folder/memory.sqlite"), ("notes.sqlite", "notes.sqlite"), ("notes.db", "notes.db")],
)
async def test_local_is_a_folder_or_a_file(tmp_path: Path, place: str, file: str) -> None:
    store = await open_store(f"local://{tmp_path}/{place}")
    await store.collection("notes")
    await store.aclose()
    await store.aclose()
    assert (tmp_path / file).is_file()
    assert [path.name for path in (tmp_path / file).parent.iterdir()] == [Path(file).name]


async def test_a_relative_path_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("local://notes"):
        assert (tmp_path / "notes" / places.FILE_NAME).is_file()


def text_file(folder: Path) -> Path:
    (folder / "notes.sqlite").write_text("dear diary" * 100)
    return folder / "notes.sqlite"


def others_database(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "notes.sqlite")) as db, db:
        db.execute("CREATE TABLE theirs (x)")
    return folder / "notes.sqlite"


def newer_store(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "notes.sqlite")) as db, db:
        db.execute("PRAGMA application_id=1095988851")
        db.execute("PRAGMA user_version=2")
    return folder / "notes.sqlite"


def a_file_for_a_folder(folder: Path) -> Path:
    (folder / "notes").write_text("")
    return folder / "notes"


def a_folder_for_a_file(folder: Path) -> Path:
    (folder / "notes.sqlite").mkdir()
    return folder / "notes.sqlite"


def a_missing_folder(folder: Path) -> Path:
    return folder / "missing" / "notes.sqlite"


def too_long(folder: Path) -> Path:
    return folder / ("x" * 300)


@pytest.mark.parametrize(
    "place",
    [text_file, others_database, newer_store, a_file_for_a_folder, a_folder_for_a_file, a_missing_folder, too_long],
)
async def test_what_is_no_place_for_a_store_is_left_as_it_was(tmp_path: Path, place: Callable[[Path], Path]) -> None:
    path = place(tmp_path)
    before = path.read_bytes() if len(path.name) < 100 and path.is_file() else b""
    with pytest.raises(StoreError) as caught:
        await open_store(f"local://{path}")
    assert str(tmp_path) in str(caught.value)
    assert caught.value.remedy
    assert not before or path.read_bytes() == before
    assert not list(tmp_path.rglob("*.lock"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.platform
async def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="permission denied"):
        await open_store(f"local://{tmp_path}/notes")


async def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path}/far nfs4 rw 0 0\n")
    monkeypatch.setattr(places, "MOUNTS", mounts)
    with pytest.raises(StoreError, match="nfs4") as caught:
        await open_store(f"local://{tmp_path}/far/notes")
    assert "chroma://" in caught.value.remedy
    async with open_store(f"local://{tmp_path}/near"):
        pass


@pytest.mark.parametrize(
    ("missing", "url", "extra"), [("numpy", "memory://", "memory"), ("chromadb", "chroma://localhost:1", "chroma")]
)
async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, missing: str, url: str, extra: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else find(name, *more))
    with pytest.raises(AuroraSwarmError) as caught:
        await open_store(url)
    assert f"aurora-swarm[{extra}]" in caught.value.remedy


async def test_without_the_default_embedder_vectors_still_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from aurora_swarm.memory.embedders import wordllama

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "wordllama" else find(name, *more)
    )
    wordllama.loaded.cache_clear()
    async with open_store("memory://") as store:
        plain = await store.collection("plane")
        await plain.upsert([Document("east", "", {}, (1.0, 0.0))])
        assert (await plain.query((1.0, 0.0), 1))[0].document.id == "east"
        with pytest.raises(AuroraSwarmError, match="wordllama") as caught:
            await plain.query("a text")
        assert "aurora-swarm[memory]" in caught.value.remedy
