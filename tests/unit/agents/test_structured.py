"""What counts as an answer."""

import datetime as dt
import json
import math
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
        '{"name": "n", "score": 3',
    ],
)
def test_broken_json_is_repaired_and_marked(text):
    parsed = SPEC.parse(text)
    assert parsed.value == Summary(name="n", score=3)
    assert parsed.repaired


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"name": "n", "score": 99}', "score"),
        ('{"name": "n"}', "score"),
        ('{"score": 1}', "name"),
        ("[1, 2]", "object"),
        ("no json at all", "not JSON"),
        ('{"name": "n", "sc', "score"),
        ('{"name": NaN, "score": 3}', "name"),
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
