"""Whether a Redis can be relied on is decided by what it says of itself."""

from __future__ import annotations

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.journal.redis.checks import faults

SOUND = {"redis_version": "7.2.4", "maxmemory": "0", "maxmemory_policy": "noeviction", "aof_enabled": "1"}
ALWAYS = {"appendfsync": "always", "save": ""}


@pytest.mark.parametrize(
    ("info", "config"),
    [
        ({}, ALWAYS),
        ({"redis_version": "6.2.0"}, ALWAYS),
        ({"redis_version": "10.0-rc1"}, ALWAYS),
        ({"maxmemory": "1000000"}, ALWAYS),
        ({"maxmemory_policy": "allkeys-lru"}, ALWAYS),
        ({"role": "master"}, {}),
    ],
)
def test_nothing_is_said_of_a_sound_one(info: dict[str, str], config: dict[str, str]) -> None:
    assert faults("redis://h", SOUND | info, config) == ()


@pytest.mark.parametrize(
    ("info", "match", "remedy"),
    [
        ({"redis_version": "6.0.16"}, "Redis 6.0.16", "6.2"),
        ({"maxmemory": "1", "maxmemory_policy": "volatile-ttl"}, "throw away", "noeviction"),
        ({"role": "slave"}, "replica", "primary"),
    ],
)
def test_one_that_cannot_be_relied_on_is_refused(info: dict[str, str], match: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        faults("redis://h", SOUND | info, ALWAYS)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("info", "config", "said"),
    [
        ({}, {"appendfsync": "everysec", "save": ""}, "once a second"),
        ({"aof_enabled": "0"}, {"appendfsync": "everysec", "save": "3600 1"}, "only now and then"),
        ({"aof_enabled": "0"}, {"appendfsync": "everysec", "save": ""}, "keeps nothing on its disk"),
        ({"aof_enabled": "0"}, {}, "is not known"),
    ],
)
def test_what_a_crash_would_cost_is_said(info: dict[str, str], config: dict[str, str], said: str) -> None:
    (note,) = faults("redis://h", SOUND | info, config)
    assert said in note
    assert note.startswith("redis://h: ")
