"""Claims a shard, says so, and writes a result as soon as it hears a line: a process for tests to pause."""

from __future__ import annotations

import asyncio
import sys

from aurora_swarm.errors import FencedError
from aurora_swarm.journal.shards import open_shards
from aurora_swarm.values.shard import Batch, Result


def say(line: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(url: str, run: str) -> None:
    """Own whatever shard has work; print what became of the result."""
    store = await open_shards(url, run=run)
    claim = await store.claim_any("the paused one")
    assert claim is not None
    (unfinished,) = await store.load(claim, 1)
    say(str(claim.epoch))
    sys.stdin.readline()
    try:
        await store.apply(claim, Batch(results=[Result(unfinished.job.key, b"late")]))
        say("written")
    except FencedError as error:
        say(f"refused: {error}")
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
