import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from aurora_swarm.errors import SchemaError
from aurora_swarm.inputs.schema import SchemaValidator, check_schema, load_schema, problems

NAME = {"name": {"type": "string"}}


def schema_of(**parts: Any) -> dict[str, Any]:
    return {"type": "object", "properties": NAME} | parts


def refusal(schema: object) -> SchemaError:
    with pytest.raises(SchemaError) as caught:
        check_schema(schema)
    return caught.value


class Leaf(BaseModel):
    label: str
    children: list["Leaf"] = []


class Claim(BaseModel):
    text: str
    score: float | None
    tree: Leaf


@pytest.mark.parametrize(
    "schema",
    [
        schema_of(),
        schema_of(required=["name"], additionalProperties=False),
        schema_of(required=["name", "x-1"], patternProperties={"^x-": True}),
        schema_of(anyOf=[{"required": ["name"]}, {"required": ["other"]}]),
        {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": schema_of()}},
        {"$schema": "http://json-schema.org/draft-07/schema#", **schema_of()},
        {
            "$id": "https://example.org/claim",
            "$defs": {"n": True},
            **schema_of(properties={"n": {"$ref": "#/$defs/n"}}),
        },
        schema_of(properties={"$ref": {"type": "string"}, "type": {"enum": [1]}}),
        schema_of(properties={"next": {"$ref": "#"}}),
        Claim.model_json_schema(),
        Leaf.model_json_schema(),
    ],
)
def test_accepts_what_people_write_and_pydantic_makes(schema: dict[str, Any]) -> None:
    check_schema(schema)
    assert problems(schema, 7) != []


@pytest.mark.parametrize(
    ("schema", "field", "problem", "remedy"),
    [
        ([], "", "expected a schema, found a list", '"type": "object"'),
        ({}, "", "does not describe an object", 'add "type": "object"'),
        ({"type": "array", "items": schema_of()}, "", "does not describe an object", "make it a property"),
        ({"type": "object"}, "", "the object has no properties", "name under properties"),
        ({"type": "object", "properties": {}}, "", "the object has no properties", "name under properties"),
        ({"$ref": "#/$defs/a", "$defs": {"a": True}}, "", "does not describe an object", 'add "type"'),
        (schema_of(properties={"a": {"type": "str"}}), "properties.a.type", "'str' is not a type", "mean 'string'"),
        (schema_of(properties={"a": {"type": "strng"}}), "properties.a.type", "'strng' is not a type", "mean 'string'"),
        (schema_of(properties={"a": {"type": ["null", "any"]}}), "properties.a.type", "'any' is not a type", "known: "),
        (schema_of(properties={"a": {"type": 7}}), "properties.a.type", "7 is not a type", "known: "),
        (schema_of(properties={"a": "string"}), "properties.a", "expected a schema, found the text", "true or false"),
        (schema_of(required=["nam"]), "required[0]", "'nam' is not among the properties", "mean 'name'"),
        (schema_of(properties={"a": {"enum": []}}), "properties.a.enum", "no value is allowed", "allowed values"),
        (
            schema_of(properties={"a": {"type": "array", "items": {"anyOf": [True, {"enum": []}]}}}),
            "properties.a.items.anyOf[1].enum",
            "no value",
            "allowed values",
        ),
        (
            schema_of(properties={"a": {"$ref": "#/$defs/Nmae"}}, **{"$defs": {"Name": True}}),
            "properties.a.$ref",
            "does not lead to a schema",
            "mean '#/$defs/Name'",
        ),
        (schema_of(properties={"a": {"$ref": "#name"}}), "properties.a.$ref", "does not lead to a schema", "$defs"),
        (schema_of(properties={"a": {"$ref": "#/properties"}}), "properties.a.$ref", "does not lead to a", "$defs"),
        (
            schema_of(properties={"a": {"$ref": "https://example.org/s.json"}}),
            "properties.a.$ref",
            "leads out of this schema, and nothing is fetched",
            "copy what it names under $defs",
        ),
        (schema_of(properties={"a": {"$ref": "file:///etc/passwd"}}), "properties.a.$ref", "leads out", "copy"),
        (schema_of(properties={"a": {"$ref": 7}}), "properties.a.$ref", "7 leads out", "copy"),
        (schema_of(properties={"a": {"$ref": "#/properties/a"}}), "properties.a.$ref", "leads back to itself", "below"),
        (schema_of(allOf=[{"$ref": "#"}]), "allOf[0].$ref", "leads back to itself", "below properties or items"),
        (schema_of(properties={"a": {"$dynamicRef": "#x"}}), "properties.a.$dynamicRef", "not supported", "$defs/Name"),
        (schema_of(properties={"a": {"$id": "https://x.org"}}), "properties.a.$id", "not supported here", "$defs"),
        (schema_of(properties={"a": {"minLength": "3"}}), "properties.a.minLength", "'3' is not of type 'integer'", ""),
        (schema_of(properties={"a": {"pattern": "("}}), "properties.a.pattern", "'(' is not a 'regex'", ""),
        (schema_of(required="name"), "required", "'name' is not of type 'array'", ""),
        (schema_of(**{"$schema": "https://x.org/s"}), "$schema", "is not a known dialect", "2020-12"),
        (schema_of(**{"$schema": 7}), "$schema", "7 is not a known dialect", "2020-12"),
    ],
)
def test_a_schema_that_cannot_be_used_is_named_by_field_problem_and_remedy(
    schema: object, field: str, problem: str, remedy: str
) -> None:
    error = refusal(schema)
    assert (error.source, error.field) == ("output_schema", field)
    assert problem in error.problem
    assert error.remedy
    assert remedy in error.remedy


def test_every_flaw_is_listed() -> None:
    error = refusal(schema_of(properties={"a": {"type": "str"}, "b": {"enum": []}}, required=["c"]))
    assert {e.field for e in (error, *error.others)} == {"required[0]", "properties.a.type", "properties.b.enum"}


def test_a_schema_without_end_is_refused() -> None:
    schema: dict[str, Any] = schema_of()
    schema["properties"] = {"a": schema}
    assert "nested too deeply" in refusal(schema).problem


def test_a_file_gives_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text("type: object\nproperties:\n  score: {type: int}\n")
    with pytest.raises(SchemaError) as caught:
        load_schema(path)
    assert str(caught.value) == f"{path}:3:11: properties.score.type: 'int' is not a type"
    assert caught.value.remedy.startswith("did you mean 'integer'?")


def test_a_json_file_gives_line_and_column_too(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema_of(properties={"score": {"type": "int"}}), indent=2))
    with pytest.raises(SchemaError) as caught:
        load_schema(path)
    assert caught.value.place == f"{path}:5:7"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("s.json", '{"type": "object",}', "malformed JSON"),
        ("s.json", '{"type": "object", "type": "array"}', "'type' is given twice"),
        ("s.yaml", "type: [object", "malformed YAML"),
        ("s.toml", "type = 'object'", "the suffix '.toml' names no format"),
        ("s.json", "", "malformed JSON"),
        ("s.yaml", "", "expected a schema, found null"),
    ],
)
def test_a_file_that_is_no_schema_is_refused(tmp_path: Path, name: str, text: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SchemaError) as caught:
        load_schema(path)
    assert problem in caught.value.problem
    assert caught.value.remedy


def test_loads_what_stands_in_the_file(tmp_path: Path) -> None:
    for name in ("s.json", "s.yaml"):
        (tmp_path / name).write_text(json.dumps(schema_of()))
        assert load_schema(tmp_path / name) == schema_of()


PERSON = schema_of(
    properties={
        "name": {"type": "string", "maxLength": 5},
        "born": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        "boss": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    required=["name"],
)


@pytest.mark.parametrize(
    ("value", "sentences"),
    [
        ({"name": "Ada", "born": "1815-12-10", "tags": ["a"], "boss": {"name": "Bo"}}, []),
        ({}, ["'name' is a required property"]),
        ({"name": 7}, ["name: 7 is not of type 'string'"]),
        ({"name": "Ada", "tags": ["a", "c"]}, ["tags[1]: 'c' is not one of ['a', 'b']"]),
        ({"name": "Ada", "born": "long ago"}, ["born: 'long ago' is not a 'date'"]),
        ({"name": "Ada", "boss": {"name": 7}}, ["boss.name: 7 is not of type 'string'"]),
        ({"tags": 1, "name": 2}, ["name: 2 is not of type 'string'", "tags: 1 is not of type 'array'"]),
        ("Ada", ["'Ada' is not of type 'object'"]),
        (None, ["None is not of type 'object'"]),
    ],
)
def test_says_what_is_wrong_with_an_answer(value: object, sentences: list[str]) -> None:
    assert problems(PERSON, value) == sentences


def test_what_is_said_of_a_huge_answer_is_short() -> None:
    huge = {"name": "x" * 1_000_000, "tags": ["c"] * 100_000}
    said = SchemaValidator(PERSON).problems(huge)
    assert len(said) == 20
    assert max(len(sentence) for sentence in said) < 400


def test_an_answer_that_is_nested_too_deeply_is_a_problem_not_a_crash() -> None:
    value: dict[str, Any] = {"name": "x"}
    for _ in range(5_000):
        value = {"name": "x", "boss": value}
    assert problems(PERSON, value) == ["the answer is nested too deeply"]


def test_an_unchecked_reference_is_an_error_and_is_not_fetched() -> None:
    with pytest.raises(SchemaError, match="leads nowhere"):
        problems(schema_of(properties={"a": {"$ref": "http://127.0.0.1:9/s.json"}}), {"a": 1})


keywords = st.sampled_from(
    ["$defs", "$id", "$ref", "$schema", "anyOf", "const", "enum", "format", "items", "minLength", "not", "pattern"]
)
words = keywords | st.sampled_from(
    ["properties", "required", "type", "object", "string", "date", "#", "#/$defs/a", "a", "[", "additionalProperties"]
)
anything = st.recursive(
    words | st.none() | st.booleans() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200)
@given(st.dictionaries(words, anything, max_size=4), anything)
def test_any_schema_that_is_accepted_can_be_applied_to_any_value(parts: dict[str, Any], value: object) -> None:
    schema = {**schema_of(), **parts, "properties": {"a": parts, "b": {"$ref": "#/properties/a"}}}
    try:
        check_schema(schema)
    except SchemaError as error:
        outcome: object = error.remedy
    else:
        outcome = [problems(schema, value), problems(schema, {"a": value})]
    assert outcome
