"""Whether a Redis can be relied on, by what it says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aurora_swarm.errors import UsageError

OLDEST = (6, 2)


def faults(place: str, info: Mapping[str, str], config: Mapping[str, str]) -> tuple[str, ...]:
    """What the user should be told of a Redis that is used for a run.

    Args:
        place: Its URL without credentials.
        info: What ``INFO`` says, by name.
        config: What ``CONFIG GET`` says, by name; empty where it may not be asked.

    Returns:
        Sentences: what a crash of it would cost.

    Raises:
        UsageError: It is too old, or may forget what it was told.
    """
    version = info.get("redis_version", "0.0")
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise UsageError(f"{place} is Redis {version}", remedy="use Redis 6.2 or newer, or Valkey")
    _refuse_eviction(place, info)
    if info.get("role", "master") != "master":
        raise UsageError(f"{place} is a replica, which takes no writes", remedy="name the primary server")
    return tuple(f"{place}: {sentence}" for sentence in _cost_of_a_crash(info, config))


def _refuse_eviction(place: str, info: Mapping[str, str]) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and int(info.get("maxmemory", "0")) > 0:
        raise UsageError(
            f"{place} may throw away what it was told when its memory is full (maxmemory-policy {policy})",
            remedy="set maxmemory-policy noeviction, or maxmemory 0, or use another Redis",
        )


_ONCE_A_SECOND = (
    "it writes to its disk once a second or less, so a crash of its machine can lose the last results and have them "
    "made and given out again; set appendfsync always to rule that out"
)


def _cost_of_a_crash(info: Mapping[str, str], config: Mapping[str, str]) -> list[str]:
    if info.get("aof_enabled") == "1":
        return [_ONCE_A_SECOND] if config.get("appendfsync", "always") != "always" else []
    if config.get("save"):
        return ["it saves only now and then, so a crash of it loses minutes of work; set appendonly yes"]
    if config:
        return ["it keeps nothing on its disk, so the run is lost with it; set appendonly yes and appendfsync always"]
    return ["whether it keeps anything on its disk is not known; see that appendonly is yes"]
