"""A key is made of everything that determines an answer, and of nothing else."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field, create_model

from aurora_swarm import Tool
from aurora_swarm.batch.compiler import TaskCompiler
from aurora_swarm.batch.keys import Determinants, KeyMaker, Occurrences
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.journal.open import open_journal
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.message import Message
from aurora_swarm.values.record import Record

BASE = Determinants(
    model="m",
    sampling=Sampling(),
    schema=b"{}",
    tools=(b"a", b"b"),
    max_turns=3,
    max_retries=2,
    tool_choice="auto",
    protocol="native",
    compaction="heuristic:1",
    layout="1",
    runtime="",
    reminder="Now",
)
SAID = (Message("system", "be brief"), Message("user", "hello"))
OTHER: dict[str, list[Any]] = {
    "model": ["", "M", "m "],
    "sampling": [Sampling(temperature=0.0), Sampling(seed=0), Sampling(stop=("",)), Sampling(top_p=1.0)],
    "schema": [b"", b"{} "],
    "tools": [(), (b"ab",), (b"b", b"a"), (b"a", b"b", b"")],
    "max_turns": [4],
    "max_retries": [0],
    "tool_choice": ["required"],
    "protocol": ["", "constrained"],
    "compaction": ["", "heuristic:2"],
    "layout": ["", "2"],
    "runtime": ["opencode 1"],
    "reminder": ["", "Now:"],
}


def test_every_determinant_is_part_of_the_key() -> None:
    assert set(OTHER) == set(Determinants.__struct_fields__)
    changed = [msgspec.structs.replace(BASE, **{name: value}) for name, values in OTHER.items() for value in values]
    keys = [KeyMaker(each).key(SAID) for each in [BASE, *changed]]
    assert len(set(keys)) == len(keys)
    assert KeyMaker(msgspec.structs.replace(BASE)).key(SAID) == keys[0]


def test_what_is_said_cannot_move_from_one_message_or_grant_into_another() -> None:
    conversations = [
        (Message("user", "ab"),),
        (Message("user", "a"), Message("user", "b")),
        (Message("system", "a"), Message("user", "b")),
        (Message("user", ""), Message("user", "ab")),
        (Message("user", "a\ud800"),),
        (Message("user", "a\\ud800"),),
    ]
    grants: list[Any] = [b"", [b""], [b"", b""], b"xy", [b"xy"], [b"x", b"y"], [b"xy", b""]]
    keys = {KeyMaker(BASE).key(said, grant) for said in conversations for grant in grants}
    assert len(keys) == len(conversations) * len(grants)


# -- occurrences -------------------------------------------------------------------------------------------------------


def content(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()[:16]


def contents(dice: random.Random, number: int, kinds: int) -> list[bytes]:
    return [content(dice.randrange(kinds)) for _ in range(number)]


@pytest.mark.parametrize("exact", [0, 40, 10_000])
@pytest.mark.parametrize("bits", [2**7, 2**26])
def test_equal_contents_never_get_one_number_twice_and_always_get_the_same(exact: int, bits: int) -> None:
    given = contents(random.Random(3), 5_000, 300)
    first, second = Occurrences(exact, bits), Occurrences(exact, bits)
    numbered = [(each, first.count(each)) for each in given]
    assert len(set(numbered)) == len(numbered)
    assert numbered == [(each, second.count(each)) for each in given]


@pytest.mark.parametrize("exact", [0, 100, 10_000])
def test_they_are_counted_from_nought(exact: int) -> None:
    occurrences = Occurrences(exact)
    seen: Counter[bytes] = Counter()
    for each in contents(random.Random(4), 5_000, 700):
        assert occurrences.count(each) == seen[each]
        seen[each] += 1


def test_many_equal_contents_are_numbered() -> None:
    occurrences = Occurrences(exact=0)
    assert [occurrences.count(content(1)) for _ in range(10_000)] == list(range(10_000))


def test_of_many_contents_nearly_none_gets_a_number_too_high() -> None:
    occurrences = Occurrences(exact=0, bits=2**21)
    assert sum(occurrences.count(content(number)) for number in range(50_000)) <= 3


# -- nothing stale -----------------------------------------------------------------------------------------------------

WORDS = ["a", "b", "ab", "", " ", "{", "\u00e4", "\U0001f41d", "0", "null", '"', "\n"]
Draw = Callable[[random.Random], Any]


def words(dice: random.Random) -> str:
    return "".join(dice.choice(WORDS) for _ in range(dice.randrange(1, 6)))


def schema(dice: random.Random) -> type[BaseModel]:
    fields = {
        f"f{number}": (
            dice.choice([str, int, list[str]]),
            Field(description=words(dice), **dice.choice([{}, {"title": "x"}])),
        )
        for number in range(dice.randrange(1, 4))
    }
    return create_model("Out", **fields)  # type: ignore[call-overload, no-any-return]


def tools(dice: random.Random) -> tuple[Any, ...]:
    def look_up(name: str) -> str:
        """Look it up."""
        return name

    look_up.__doc__ = f"Look up {dice.randrange(100)}."
    tool = Tool.define(
        name=f"look_{dice.randrange(3)}",
        effect=dice.choice(["pure", "idempotent", "effect"]),
        max_chars=dice.randrange(100, 103),
    )(look_up)
    return (tool.limit(name=[words(dice)]) if dice.random() < 0.5 else tool,) * dice.randrange(2)


def sampling(dice: random.Random) -> Sampling:
    return Sampling(
        max_tokens=dice.choice([None, 1, 2]),
        temperature=dice.choice([None, 0.0, 1.0]),
        top_p=dice.choice([None, 0.5]),
        seed=dice.choice([None, 0, 1]),
        stop=dice.choice([(), ("a",), ("a", "b"), ("ab",)]),
    )


CHANGES = 10_000
DRAWS: dict[str, Draw] = {
    "task": lambda dice: f"{words(dice).replace('{', '(')} {{text}}",
    "system_prompt": words,
    "tools": tools,
    "output_schema": lambda dice: schema(dice) if dice.random() < 0.8 else None,
    "max_turns": lambda dice: dice.randrange(1, 9),
    "max_retries": lambda dice: dice.randrange(5),
    "sampling": sampling,
    "model": words,
    "text": words,
}


def settings(dice: random.Random) -> dict[str, Any]:
    return {name: draw(dice) for name, draw in DRAWS.items()}


def key_of(given: dict[str, Any]) -> str:
    spec = {name: value for name, value in given.items() if name not in {"model", "text"}}
    return TaskCompiler(BatchSpec(**spec), given["model"]).compile(0, {"text": given["text"]}).task.key


def told(given: dict[str, Any]) -> bytes:
    """All that a model and its tools are told of a setting, and all that is asked of the answer."""
    rest = {name: value for name, value in given.items() if name not in {"tools", "output_schema"}}
    shape = given["output_schema"].model_json_schema() if given["output_schema"] else None
    return msgspec.json.encode([rest, shape, [(tool.determinant(), tool.stamp()) for tool in given["tools"]]])


@pytest.mark.timeout(300)
async def test_after_one_determinant_changed_no_old_answer_is_given(tmp_path: Path) -> None:
    journal = await open_journal(tmp_path / "run.journal")
    dice = random.Random(17)
    changes = stale = 0
    while changes < CHANGES:
        base = settings(dice)
        await journal.append(Record(key_of(base), told(base)))
        assert await journal.find([key_of(base)])
        for _ in range(100):
            name = dice.choice(list(DRAWS))
            changed = {**base, name: DRAWS[name](dice)}
            if told(changed) != told(base):
                found = await journal.find([key_of(changed)])
                stale += any(record.payload != told(changed) for record in found.values())
                changes += 1
    await journal.aclose()
    assert stale == 0
