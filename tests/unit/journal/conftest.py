"""Journals to damage, and people who may not do everything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_swarm.agents.driver import Recorded, ToolReport
from aurora_swarm.batch.stored import encode_heard
from aurora_swarm.journal.schema import Row, checksum
from aurora_swarm.journal.store import RecordStore
from aurora_swarm.values.message import ToolCall
from aurora_swarm.values.reply import Reply

NOBODY = 65534


def row(key: bytes, payload: bytes) -> Row:
    return key, checksum(key, payload), payload


@pytest.fixture
def payloads() -> dict[bytes, bytes]:
    """What the journals below hold: small payloads, one that does not fit on a page, and turns of an agent."""
    plain = {b"key%d" % i: b"payload %d " % i * (1 if i != 5 else 700) for i in range(7)}
    said: list[Recorded] = [Reply("", tool_calls=(ToolCall("c", "look_up", {"n": 1}),)), [ToolReport("found", True)]]
    turns = [encode_heard(heard) for heard in said]
    return plain | {b"7" * 32 + b"#": turns[0], b"7" * 32 + b"#" + b"a" * 24: turns[1], b"8" * 32 + b"-1#": turns[0]}


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place, where a sync costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def journal(quick_folder: Path, payloads: dict[bytes, bytes]) -> Path:
    """A journal that was closed."""
    path = quick_folder / "run.journal"
    store = RecordStore(path)
    store.append([row(*item) for item in payloads.items()])
    store.close()
    return path


@pytest.fixture
def killed_journal(quick_folder: Path, payloads: dict[bytes, bytes]) -> Path:
    """A journal as a killed process leaves it: most of it is still in the write-ahead log, the lock file is left."""
    running = quick_folder / "running"
    store = RecordStore(running)
    for item in payloads.items():
        store.append([row(*item)])
    path = quick_folder / "run.journal"
    for companion in ("", "-wal", ".lock"):
        path.with_name(path.name + companion).write_bytes(running.with_name(running.name + companion).read_bytes())
    store.close()
    running.unlink()
    return path


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder of somebody who is not root; the test runs as they."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)
