"""What the workers of chaotic runs run: a tool that says who asked what and when; and workers that lack a safeguard."""

import os
import time
from pathlib import Path
from typing import Any

from aurora_swarm import Tool
from aurora_swarm.batch import worker
from aurora_swarm.journal.redis import scripts
from aurora_swarm.journal.redis.scripts import Script
from aurora_swarm.journal.sqlite_shards_file import ShardFile

LOG = "LOOKED_UP"
_FENCE = "if call('HGET', P .. 'epochs', s) ~= epoch then"
_ENDED = """    call('HDEL', P .. 'j', key)
    call('ZREM', P .. 'q:' .. s, key)
"""


@Tool.define(effect="idempotent")
def look_up(key: str) -> str:
    """Look something up."""
    with Path(os.environ[LOG]).open("a") as file:
        file.write(f"{time.monotonic():.4f} {os.getpid()} {key}\n")
    return f"found {key}"


async def unfenced(argument: str) -> None:
    """A worker whose store takes whatever a stale owner writes."""
    _without_fence()
    await worker.main(argument)


async def unfirst(argument: str) -> None:
    """A worker whose store lets a later write of a result, or of a turn, take the place of the first."""
    _without_first_write()
    await worker.main(argument)


async def unguarded(argument: str) -> None:
    """A worker whose store does both."""
    _without_fence()
    _without_first_write()
    await worker.main(argument)


def _without_fence() -> None:
    for name in ("LOAD", "APPLY"):
        _rewrite(name, _FENCE, "if false then")
    _patch(ShardFile, "_refuse_fenced", lambda self, claim: None)


def _without_first_write() -> None:
    _rewrite("APPLY", "'HSETNX'", "'HSET'")
    _rewrite("APPLY", _ENDED, "    call('ZREM', P .. 'q:' .. s, key)\n")
    found = ShardFile._rows

    def rows(self: Any, claim: Any, batch: Any) -> dict[str, Any]:
        for key in found(self, claim, batch):
            self._db.execute("UPDATE jobs SET done = 0 WHERE run = ? AND key = ?", (self._run, key.encode()))
        return found(self, claim, batch)

    _patch(ShardFile, "_rows", rows)


def _rewrite(name: str, old: str, new: str) -> None:
    before: Script = getattr(scripts, name)
    assert old in before.text
    after = Script(before.text.replace(old, new))
    _patch(scripts, name, after)
    _patch(scripts, "SHARD_SCRIPTS", tuple(after if each == before else each for each in scripts.SHARD_SCRIPTS))


def _patch(owner: Any, name: str, value: Any) -> None:
    setattr(owner, name, value)
