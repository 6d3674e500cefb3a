"""What counts as an answer."""

import datetime as dt
import json
import math
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from aurora_swarm import errors
from aurora_swarm.agents.structured import MAX_STRING, OutputSpec, load_json


class Summary(BaseModel):
    name: str | None
    score: int = Field(ge=0, le=10)
    tags: list[str] = []
    day: dt.date | None = None


SPEC = OutputSpec(Summary)
PLAIN = OutputSpec({"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]})


def test_a_valid_answer_becomes_an_instance():
    parsed = SPEC.parse('{"name": null, "score": 3, "tags": ["x"], "day": "2026-11-21"}')
    assert parsed.value == Summary(name=None, score=3, tags=["x"], day=dt.date(2026, 11, 21))
    assert not parsed.repaired


def test_without_a_schema_the_text_is_the_answer_unchanged():
    assert OutputSpec(None).parse("  hello {x}\n").value == "  hello {x}\n"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_answer_is_no_answer(text):
    for spec in (OutputSpec(None), SPEC, PLAIN):
        with pytest.raises(errors.InvalidOutputError):
            spec.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "n", "score": 3}\n```',
        'Sure! Here it is: {"name": "n", "score": 3}',
        "{'name': 'n', 'score': 3}",
        '{"name": "n", "score": 3,}',
        '{"name": "n" "score": 3}',
        '{name: "n", score: 3, day: None}',
        '<think>a {list}?</think>{"name": "n", "score": 3}\n\nHope that helps!',
    ],
)
def test_broken_json_is_repaired_and_marked(text):
    parsed = SPEC.parse(text)
    assert parsed.value == Summary(name="n", score=3)
    assert parsed.repaired


@given(st.data())
def test_an_answer_that_was_cut_off_is_never_repaired_into_a_whole_one(data):
    whole = '{"name": "some name", "score": 3, "tags": ["one", "two"], "day": null}'
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(errors.InvalidOutputError):
        SPEC.parse(cut)
    with pytest.raises(errors.InvalidOutputError):
        SPEC.parse(f"```json\n{cut}\n```")


@pytest.mark.parametrize(
    "text",
    [
        '{"name": , "score": 3}',
        '{"name": "n", "score": 3, "tags": ["a", }',
        '{"name": "n", "score": 3} or {"name": "m", "score": 4}',
        '{"name": "n", "name": "m", "score": 3}',
        '{"name": "n", "score": 3 4}',
        '{"name": "n", "score": 3, "tags": ["a"} ]',
    ],
)
def test_a_repair_invents_drops_and_picks_nothing(text):
    with pytest.raises(errors.InvalidOutputError):
        SPEC.parse(text)


@given(
    st.builds(
        Summary,
        name=st.none() | st.text("ab {}[]:,'\\\"\n\té😀∅", max_size=12),
        score=st.integers(0, 10),
        tags=st.lists(st.text('ab \\"é', max_size=6), max_size=3),
    ),
    st.sampled_from(["{},}}", "```json\n{}}}\n```", "So: {}}}. Good?"]),
)
def test_a_repair_changes_no_value(summary, frame):
    text = frame.format(summary.model_dump_json()[:-1])
    try:
        parsed = SPEC.parse(text)
    except errors.InvalidOutputError:
        return
    assert parsed.value == summary
    assert parsed.repaired


@pytest.mark.parametrize("text", ["{" * 3000 + "}" * 3000, '{"a":' * 5000 + "}" * 5000, '"' * 100_000 + "{}"])
def test_text_made_to_be_slow_to_repair_is_refused(text):
    with pytest.raises(errors.InvalidOutputError):
        SPEC.parse(text)


def test_fifty_megabytes_are_an_answer_like_any_other():
    name = "x" * 50_000_000
    assert SPEC.parse(f'{{"name": "{name}", "score": 1}}').value.name == name


def test_a_problem_is_told_briefly():
    with pytest.raises(errors.InvalidOutputError) as caught:
        PLAIN.parse('{"label": "' + "x" * 10_000 + '"}')
    assert len(caught.value.problem) < 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"name": "n", "score": 99}', "score"),
        ('{"name": "n"}', "score"),
        ('{"score": 1}', "name"),
        ("[1, 2]", "object"),
        ("no json at all", "not JSON"),
        ('{"name": "n", "sc', "not JSON"),
        ('{"name": NaN, "score": 3}', "NaN"),
    ],
)
def test_an_invalid_answer_tells_the_model_which_field(text, told):
    with pytest.raises(errors.InvalidOutputError, match=told) as caught:
        SPEC.parse(text)
    assert caught.value.text == text


@pytest.mark.parametrize("text", ['{"label": "c"}', "{}", '{"label": null}', '"a"', "null"])
def test_a_json_schema_is_enforced(text):
    with pytest.raises(errors.InvalidOutputError):
        PLAIN.parse(text)
    assert PLAIN.parse('{"label": "a"}').value == {"label": "a"}


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', '{"a": 1e999}', '{"a": 1, "a": 2}', "[" * 100_000])
def test_what_json_forbids_is_refused_without_a_crash(text):
    with pytest.raises(ValueError, match=r"."):
        load_json(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_strict_json_reads_what_json_writes(value):
    assert load_json(json.dumps(value)) == value


@given(st.text(max_size=200))
def test_whatever_a_model_says_ends_as_an_answer_or_our_error(text):
    for spec in (SPEC, PLAIN):
        with suppress(errors.InvalidOutputError):
            assert isinstance(spec.parse(text).value, Summary | dict)


@given(
    st.builds(
        Summary, name=st.none() | st.text(), score=st.integers(0, 10), tags=st.lists(st.text(max_size=5), max_size=3)
    )
)
def test_a_valid_answer_is_never_changed(summary):
    parsed = SPEC.parse(summary.model_dump_json())
    assert parsed.value == summary
    assert not parsed.repaired
    assert SPEC.revive(summary.model_dump_json().encode()) == summary


def test_the_schema_given_to_an_engine_is_bounded():
    schema = SPEC.schema
    assert schema["additionalProperties"] is False
    assert schema["properties"]["tags"]["items"]["maxLength"] == MAX_STRING
    assert schema["properties"]["name"]["anyOf"][0]["maxLength"] == MAX_STRING


def test_an_optional_field_is_not_made_required():
    assert SPEC.schema["required"] == ["name", "score"]


def test_a_stored_answer_is_revived_by_its_field_names():
    class Aliased(BaseModel):
        name: str = Field(alias="theName")

    stored = Aliased(theName="n").model_dump_json().encode()
    assert OutputSpec(Aliased).revive(stored) == Aliased(theName="n")


def test_a_model_without_a_json_schema_is_refused():
    class Callback(BaseModel):
        call: Callable[[], None]

    with pytest.raises(errors.SchemaError, match="Callback"):
        OutputSpec(Callback)


def test_a_stored_answer_that_is_not_valid_any_more_is_not_revived():
    with pytest.raises(errors.InvalidOutputError):
        SPEC.revive(b'{"name": "n", "score": 11}')


@pytest.mark.parametrize(
    "schema", [3, "x", list, {"type": "nonsense"}, {"type": "string"}, {"properties": {"a": {"enum": []}}}]
)
def test_a_schema_that_cannot_be_used_is_refused(schema):
    with pytest.raises(errors.SchemaError):
        OutputSpec(schema)


def test_huge_numbers_do_not_become_infinite():
    assert math.isfinite(load_json("1e308"))
