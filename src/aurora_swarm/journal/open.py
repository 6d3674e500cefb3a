"""Opens a journal by path or URL; the only place that names the classes behind the port."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from aurora_swarm.errors import UsageError
from aurora_swarm.journal.null import NullJournal
from aurora_swarm.ports.journal import Journal

_PATH_REMEDY = "give the path of a file on a local disk, such as run.journal or sqlite:///var/tmp/run.journal"


async def open_journal(place: str | Path | None) -> Journal:
    """Open the journal at a place; created when nothing is there.

    Args:
        place: A path, ``sqlite://`` and a path (``sqlite://run.journal`` is relative, ``sqlite:///tmp/run.journal``
            is not), ``redis://host:6379/0?journal=NAME`` (``rediss://``, ``unix:///path``) for one in Redis, or None
            for a journal that keeps nothing.

    Raises:
        JournalHeldError: Another run holds it; the holder is named.
        JournalForeignError: Something else is there, or a newer version wrote it; it is left as it was.
        JournalError: It cannot be used for another reason, such as a network file system.
        StorageError: It could not be read or written.
        UsageError: The URL names a kind of journal that does not exist or whose library is not installed, or Redis
            refuses us or may forget what it was told.
    """
    if place is None:
        return NullJournal()
    scheme, separator, rest = str(place).partition("://")
    path = rest if separator else str(place)
    if separator and scheme in {"redis", "rediss", "unix"}:
        return await _in_redis(str(place))
    if separator and scheme != "sqlite":
        raise UsageError(f"{scheme}:// is not a kind of journal", remedy=_PATH_REMEDY)
    if not path or "\0" in path:
        raise UsageError(f"{str(place)!r} names no file for the journal", remedy=_PATH_REMEDY)
    from aurora_swarm.journal.sqlite import SqliteJournal  # noqa: PLC0415 - imported only when it is chosen

    return await SqliteJournal.open(Path(path))


async def _in_redis(url: str) -> Journal:
    if importlib.util.find_spec("redis") is None:
        raise UsageError("a journal there needs redis", remedy="pip install 'aurora-swarm[redis]'")
    from aurora_swarm.journal.redis.journal import RedisJournal  # noqa: PLC0415

    return await RedisJournal.open(url)
