"""Opens what several processes share of a run by URL; the only place that names the classes behind the port."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from aurora_swarm.errors import UsageError
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.values.shard import RunPlan

_KINDS = "redis://HOST:PORT, rediss://HOST:PORT, unix:///path/of/its.socket, or sqlite:///path/of/a.file"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MOST_SHARDS = 4_096


async def open_shards(url: str, plan: RunPlan | None = None, *, run: str = "", patience_s: float = 30.0) -> ShardStore:
    """Open a run that several processes share.

    Args:
        url: ``redis://host:6379/0`` (``rediss://``, ``unix:///path``) for processes of any machine that reach that
            Redis, ``sqlite:///path`` for those of one machine.
        plan: Makes the run where there is none yet, and must agree with the one that there is. None opens one that
            another process has made.
        run: The run's id; that of the plan where there is one.
        patience_s: Seconds for which Redis is waited for, each time it cannot be reached, or a file while others write.

    Raises:
        UsageError: The URL is of no kind that there is, a library for it is not installed, there is no such run, it is
            a run of something else, or the store refuses us or cannot be relied on.
        JournalError: A file cannot be used.
        StorageError: The store could not be reached, read or written.
    """
    run = run or (plan.run if plan is not None else "")
    _check(run, plan)
    store = await _opened(url, run, plan, patience_s)
    if plan is not None and store.plan.digest != plan.digest:
        await store.aclose()
        raise UsageError(
            f"run {run!r} was begun with another task, other inputs or other settings",
            remedy="give this run an id of its own, or the settings of that one",
        )
    return store


async def _opened(url: str, run: str, plan: RunPlan | None, patience_s: float) -> ShardStore:
    scheme, separator, rest = url.partition("://")
    if separator and scheme in {"redis", "rediss", "unix"}:
        if importlib.util.find_spec("redis") is None:
            raise UsageError(f"a {scheme}:// store needs redis", remedy="pip install 'aurora-swarm[redis]'")
        from aurora_swarm.journal.redis.store import RedisShardStore  # noqa: PLC0415 - imported when it is chosen

        return await RedisShardStore.open(url, run, plan, patience_s=patience_s)
    if separator and scheme == "sqlite" and rest and "\0" not in rest:
        from aurora_swarm.journal.sqlite_shards import SqliteShardStore  # noqa: PLC0415

        return await SqliteShardStore.open(Path(rest), run, plan, patience_s=patience_s)
    kind = scheme if separator else url
    raise UsageError(f"{kind!r} is no kind of store that processes can share", remedy=f"use {_KINDS}")


def _check(run: str, plan: RunPlan | None) -> None:
    if not _RUN.fullmatch(run):
        remedy = "up to 100 letters, digits, '.', '_' and '-', a letter or digit first"
        raise UsageError(f"{run!r} is no id of a run", remedy=remedy)
    if plan is None:
        return
    if plan.run != run:
        raise UsageError(f"the plan is of run {plan.run!r}, not of {run!r}", remedy="leave one of them out")
    if not 1 <= plan.shards <= _MOST_SHARDS or not plan.lease_s > 0:
        remedy = f"use 1 to {_MOST_SHARDS:,} shards, and a lease of more than 0 s"
        raise UsageError(f"a run of {plan.shards} shards and leases of {plan.lease_s:g} s cannot be", remedy=remedy)
