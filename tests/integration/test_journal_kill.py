"""Nothing that was acknowledged is lost, wherever a process dies: at random, and at every step that persists."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aurora_swarm.journal.schema import checksum
from aurora_swarm.journal.sqlite import SqliteJournal
from aurora_swarm.journal.store import RecordStore
from aurora_swarm.values.record import Record

KILLS = 8
DIED = 9
STEPS_AT_LEAST = 40


def payload(key: str) -> bytes:
    return f"payload of {key} ".encode() * (1 + len(key) % 40)


def start(what: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, __file__, what, str(folder), *more], stdout=subprocess.PIPE, text=True)


async def write_until_killed(folder: Path, run: str) -> None:
    """The child: many tasks append, each says its key as soon as it is acknowledged."""
    journal = await SqliteJournal.open(folder / "run.journal")
    assert journal.statistics().quarantined == 0

    async def worker(name: int) -> None:
        for n in range(100_000):
            keys = [f"{run}-{name}-{n}-{part}" for part in range(3)]
            await journal.append(*(Record(key, payload(key)) for key in keys))
            os.write(1, "".join(f"{key}\n" for key in keys).encode())

    await asyncio.gather(*(worker(name) for name in range(20)))


async def test_random_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    dice = random.Random(11)
    acknowledged: list[str] = []
    for kill in range(KILLS):
        child = start("write", tmp_path, str(kill))
        assert child.stdout is not None
        first = child.stdout.readline()
        await asyncio.sleep(dice.random() * 0.15)
        child.send_signal(signal.SIGKILL)
        told = first + child.communicate()[0]
        assert child.returncode == -signal.SIGKILL
        # A line that the kill cut off acknowledges nothing.
        acknowledged += told[: told.rfind("\n")].split("\n")
    journal = await SqliteJournal.open(tmp_path / "run.journal")
    found = await journal.find(acknowledged)
    assert len(acknowledged) > KILLS
    assert {key: record.payload for key, record in found.items()} == {key: payload(key) for key in acknowledged}
    assert (journal.statistics().quarantined, journal.notes) == (0, ())
    await journal.aclose()


class Steps:
    """Counts the calls that persist something, and dies before the one that is due: after the one before it."""

    def __init__(self, due: int) -> None:
        self.left = due

    def before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                os._exit(DIED)
            return function(*args, **kwargs)

        return counted


def wrap_what_persists(steps: Steps) -> None:
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        execute = steps.before(sqlite3.Connection.execute)
        executemany = steps.before(sqlite3.Connection.executemany)
        close = steps.before(sqlite3.Connection.close)

    sqlite3.connect = lambda *args, **kwargs: connect(*args, **kwargs, factory=Connection)  # type: ignore[assignment]
    for name in ("replace", "unlink", "touch"):
        setattr(Path, name, steps.before(getattr(Path, name)))
    for name in ("fsync", "pwrite"):
        setattr(os, name, steps.before(getattr(os, name)))


def append_some(path: Path, round_: int, acknowledged: int) -> None:
    store = RecordStore(path)
    for n in range(3):
        keys = [f"round{round_}-{n}-{part}" for part in range(2)]
        store.append([(k.encode(), checksum(k.encode(), payload(k)), payload(k)) for k in keys])
        os.write(acknowledged, "".join(f"{key}\n" for key in keys).encode())
    store.close()


def dies_at(path: Path, round_: int, due: int, acknowledged: int) -> bool:
    """Run the scenario in a child that dies at a step; returns whether it got that far."""
    child = os.fork()
    if child == 0:
        wrap_what_persists(Steps(due))
        append_some(path, round_, acknowledged)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, DIED}, f"step {due}: exit code {code}"
    return code == DIED


def crash_everywhere(folder: Path, original: bytes, kept: list[str]) -> int:
    """Die at every step, and at the same step of the next start; check what is left. Returns the number of steps."""
    due, died = 0, True
    while died:
        due += 1
        place = folder / str(due)
        place.mkdir()
        path = place / "run.journal"
        if original:
            path.write_bytes(original)
        told = os.open(place / "acknowledged", os.O_RDWR | os.O_CREAT)
        died = dies_at(path, 1, due, told)
        dies_at(path, 2, due, told)
        keys = kept + (place / "acknowledged").read_text().split()
        os.close(told)
        store = RecordStore(path)
        found = store.find(key.encode() for key in keys)
        assert found == {key.encode(): payload(key) for key in keys}, f"step {due}"
        store.append([(b"new", checksum(b"new", b""), b"")])
        store.close()
        left = {file.name for file in place.iterdir() if ".damaged-" not in file.name}
        assert left == {"run.journal", "acknowledged"}, f"step {due}: {left}"
    return due


def damaged_journal(path: Path) -> tuple[bytes, list[str]]:
    keys = [f"kept-{n}" for n in range(4)]
    store = RecordStore(path)
    store.append([(k.encode(), checksum(k.encode(), payload(k)), payload(k)) for k in [*keys, "lost"]])
    store.close()
    return path.read_bytes().replace(b"payload of lost", b"PAYLOAD of lost"), keys


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: what a process wrote outlives it there too, and a sync costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("which", ["new", "damaged"])
def test_a_crash_at_any_step_loses_nothing_that_was_acknowledged(quick_folder: Path, which: str) -> None:
    # In a process of its own, because forking needs one without threads.
    done = subprocess.run(
        [sys.executable, __file__, which, str(quick_folder)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > STEPS_AT_LEAST


def main(what: str, folder: Path, *more: str) -> None:
    if what == "write":
        asyncio.run(write_until_killed(folder, *more))
    original, kept = damaged_journal(folder / "original") if what == "damaged" else (b"", [])
    sys.stdout.write(f"{crash_everywhere(folder, original, kept)}\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
