from __future__ import annotations

import importlib.util

import pytest

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.swarms.messages.open import open_messages


@pytest.mark.parametrize(
    ("place", "options", "words"),
    [
        ("pigeon://roof", {}, "no place for messages"),
        ("", {}, "no place for messages"),
        ("store+pigeon://roof", {}, "no kind of vector store"),
        ("http://127.0.0.1:9", {}, "needs a token"),
        ("http://user:secret@127.0.0.1:9", {"token": "x" * 20}, "no address of served messages"),
        ("redis://127.0.0.1:port", {}, "no address of a Redis"),
        ("memory://", {"keep": 0}, "keep must be at least 1"),
        ("memory://", {"patience_s": -1.0}, "patience_s not below 0"),
    ],
)
async def test_what_cannot_be_opened_is_told(place: str, options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        async with open_messages(place, **options):  # type: ignore[arg-type]
            pass
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("place", ["redis://:secret@127.0.0.1:9/0", "http://127.0.0.1:9"])
async def test_nobody_there_is_told_after_some_patience(place: str) -> None:
    with pytest.raises(StorageError, match="could not be reached for") as raised:
        async with open_messages(place, token="x" * 20, patience_s=0.2) as messages:
            await messages.publish("news", sender="a")
    assert "secret" not in f"{raised.value}{raised.value.as_dict()}"


async def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="need redis") as raised:
        async with open_messages("redis://127.0.0.1"):
            pass
    assert raised.value.remedy == "pip install 'aurora-swarm[redis]'"
