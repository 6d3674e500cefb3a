"""URLs of a Redis."""

from __future__ import annotations

import pytest

from aurora_swarm.journal.redis.connecting import split_option, without_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6379/2?ssl=1&password=secret", "redis://host:6379/2"),
        ("rediss://:se%40cret@host", "rediss://host"),
        ("unix://:secret@/var/run/redis.sock?db=1", "unix:///var/run/redis.sock"),
        ("redis://host:port", "redis://host:port"),
    ],
)
def test_what_is_shown_has_no_secrets(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("url", "rest", "name"),
    [
        ("redis://h:1/0?journal=a&db=3", "redis://h:1/0?db=3", "a"),
        ("redis://h:1/0", "redis://h:1/0", ""),
        ("unix:///a/b.sock?journal=n%20m", "unix:///a/b.sock", "n m"),
    ],
)
def test_our_option_is_taken_out(url: str, rest: str, name: str) -> None:
    assert split_option(url, "journal") == (rest, name)
