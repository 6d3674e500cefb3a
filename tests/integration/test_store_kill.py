"""Nothing that the vector store acknowledged is lost, and nothing deleted comes back, however often it is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from aurora_swarm.memory.open import open_store
from aurora_swarm.ports.store import Collection, Document

PER_QUERY = 500


def document(key: str) -> Document:
    """What is kept under a key; all of it follows from the key."""
    number = zlib.crc32(key.encode())
    vector = tuple(float(number >> 4 * place & 15) + 0.5 for place in range(8))
    return Document(key, f"text of {key} " * (1 + number % 50), {"group": number % 7, "key": key}, vector)


async def write_until_killed(url: str, run: str) -> None:
    """The child: many tasks add and delete, each says what it did as soon as it is acknowledged."""
    async with open_store(url) as store:
        notes = await store.collection("notes", fields={"group": "int"})

        async def worker(name: int) -> None:
            for n in range(100_000):
                keys = [f"{run}-{name}-{n}-{part}" for part in range(3)]
                await notes.upsert([document(key) for key in keys])
                os.write(1, "".join(f"+{key}\n" for key in keys).encode())
                if n % 4 == 3:
                    assert await notes.delete([keys[0]]) == 1
                    os.write(1, f"-{keys[0]}\n".encode())

        await asyncio.gather(*(worker(name) for name in range(30)))


def killed_child(url: str, run: str, after_s: float) -> list[str]:
    """Let a child write for a while after its first acknowledgement, kill it, and return what it said."""
    with subprocess.Popen([sys.executable, __file__, url, run], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        try:
            child.wait(after_s)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
        told = first + child.stdout.read()
    assert child.returncode == -signal.SIGKILL, told
    # A line that the kill cut off acknowledges nothing.
    return told[: told.rfind("\n")].split("\n")


def take(told: list[str], there: dict[str, bool]) -> None:
    """Keep for each key whether it was last said to be there."""
    for line in told:
        there[line[1:]] = line[0] == "+"


async def check(notes: Collection, there: dict[str, bool], *, may_be_gone: set[str]) -> tuple[int, int]:
    """Compare what is there with what was said; returns how many were lost, and how many came back."""
    lost = back = 0
    keys = list(there)
    for start in range(0, len(keys), PER_QUERY):
        part = keys[start : start + PER_QUERY]
        got = {found.id: found for found in await notes.get(part)}
        for key in part:
            wanted = document(key)
            if there[key]:
                # Its deletion may have been done without anybody having been told.
                lost += key not in may_be_gone and got.get(key) != Document(key, wanted.text, wanted.metadata)
            else:
                back += key in got
    return lost, back


async def kill(folder: Path, kills: int) -> tuple[int, int, int]:
    """Kill as many children; returns acknowledged changes, and how many were lost or came back."""
    url, dice = f"local://{folder}", random.Random(23)
    there: dict[str, bool] = {}
    unsaid: set[str] = set()
    lost = back = 0
    for run in range(kills):
        told: dict[str, bool] = {}
        take(await asyncio.to_thread(killed_child, url, str(run), dice.random() * 0.25), told)
        assert told
        unsaid |= {key for key in told if key.endswith("-0") and int(key.split("-")[2]) % 4 == 3}
        there |= told
        if run % 10 == 9 or run == kills - 1:
            async with open_store(url) as store:
                gone, came = await check(await store.collection("notes"), there, may_be_gone=unsaid)
                lost, back = lost + gone, back + came
    return len(there), lost, back


async def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged, lost, back = await kill(tmp_path, 4)
    assert acknowledged > 100
    assert (lost, back) == (0, 0)


@pytest.mark.chaos
@pytest.mark.timeout(1_200)
async def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged, lost, back = await kill(tmp_path, 100)
    print(f"100 kills: {acknowledged:,} acknowledged, {lost} lost, {back} came back")  # noqa: T201 - the figure
    assert acknowledged > 5_000
    assert (lost, back) == (0, 0)


async def test_what_is_found_after_a_kill_is_what_a_search_finds(tmp_path: Path) -> None:
    url = f"local://{tmp_path}"
    there: dict[str, bool] = {}
    take(await asyncio.to_thread(killed_child, url, "only", 0.1), there)
    async with open_store(url) as store:
        notes = await store.collection("notes")
        for key in [key for key, is_there in there.items() if is_there and not key.endswith("-0")][:50]:
            wanted = document(key)
            assert wanted.vector is not None
            (found,) = await notes.query(wanted.vector, 1, where={"key": key})
            assert (found.document.id, round(found.similarity, 6)) == (key, 1.0)


if __name__ == "__main__":
    asyncio.run(write_until_killed(sys.argv[1], sys.argv[2]))
