import datetime as dt
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import TemplateError
from aurora_swarm.inputs.template import Placeholder, Template


def refusal(text: str) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        Template(text, "task.txt")
    return caught.value


def test_replaces_placeholders_and_undoubles_braces() -> None:
    assert Template('{a}{b} {{"x": {a}}} {{{a}}}').render({"a": "1", "b": "2"}) == '12 {"x": 1} {1}'


def test_knows_its_fields_prefix_and_parts() -> None:
    template = Template("Sum {{up}}:\n {text} in {n} {text}")
    assert template.fields == {"text", "n"}
    assert template.prefix == "Sum {up}:\n "
    assert template.parts == (
        "Sum {up}:\n ",
        Placeholder("text", 2, 2),
        " in ",
        Placeholder("n", 2, 12),
        " ",
        Placeholder("text", 2, 16),
    )


@pytest.mark.parametrize(("text", "prefix"), [("", ""), ("{a} b", ""), ("all of it", "all of it")])
def test_the_prefix_is_the_text_before_the_first_placeholder(text: str, prefix: str) -> None:
    assert Template(text).prefix == prefix


@pytest.mark.parametrize("name", ["a", "_a1", "0", "paper text", "paper-id", "größe", "名前"])
def test_names_are_what_columns_are_called(name: str) -> None:
    assert Template(f"<{{{name}}}>").render({name: "x"}) == "<x>"


@pytest.mark.parametrize("value", ["{b}", "{{b}}", "}", "{", "{a.__class__}", "\x00\u202e", "%s $a"])
def test_a_value_is_inserted_as_it_is_and_never_read_again(value: str) -> None:
    assert Template("<{a}|{b}>").render({"a": value, "b": "B"}) == f"<{value}|B>"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (0.5, "0.5"),
        (None, "null"),
        (True, "true"),
        (["a", 1], '["a",1]'),
        ({"ü": {"x": "{y}"}}, '{"ü":{"x":"{y}"}}'),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
    ],
)
def test_a_value_that_is_no_text_is_written_as_compact_json(value: object, text: str) -> None:
    assert Template("{a}").render({"a": value}) == text


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}.__iter__(), CIRCLE, {("a", "b"): 1}])
def test_a_value_that_is_no_json_is_refused_by_name(value: object) -> None:
    with pytest.raises(TemplateError, match="cannot be written as JSON") as caught:
        Template("\n {a}", "task.txt").render({"a": value})
    assert (caught.value.place, caught.value.field) == ("task.txt:2:2", "a")


@pytest.mark.parametrize(
    ("text", "line", "column", "problem", "remedy"),
    [
        ("a } b", 1, 3, "a single '}'", "{{ or }}"),
        ("a\nbc {", 2, 4, "a single '{'", "{{ or }}"),
        ("{a", 1, 1, "a single '{'", "{{ or }}"),
        ("{{a}", 1, 4, "a single '}'", "{{ or }}"),
        ("x {} y", 1, 3, "braces without a name", "{name}"),
        ("x {  } y", 1, 3, "braces without a name", "{name}"),
        ("x { a } y", 1, 3, "'{ a }' has spaces in its braces", "write {a}"),
        ("x {a.b}", 1, 3, "'{a.b}' reaches into a value", "a field of its own"),
        ("x {a[0]}", 1, 3, "'{a[0]}' reaches into a value", "a field of its own"),
        ("x {a:>10}", 1, 3, "'{a:>10}' asks for a format", "{name} alone"),
        ("x {a!r}", 1, 3, "'{a!r}' asks for a format", "{name} alone"),
        ('answer {"score": 1}', 1, 8, "is not a placeholder", "double"),
    ],
)
def test_a_brace_that_is_no_placeholder_is_named_by_place_and_remedy(
    text: str, line: int, column: int, problem: str, remedy: str
) -> None:
    error = refusal(text)
    assert (error.source, error.line, error.column, error.others) == ("task.txt", line, column, ())
    assert problem in error.problem
    assert remedy in error.remedy


def test_every_wrong_brace_is_listed() -> None:
    error = refusal("{} ok {a}\n} {b.c}")
    assert [(e.line, e.column) for e in (error, *error.others)] == [(1, 1), (2, 1), (2, 3)]


def test_check_names_every_unknown_field_once_with_the_closest_and_the_known_ones() -> None:
    with pytest.raises(TemplateError) as caught:
        Template("{text} {txet} {zzz} {zzz}", "task.txt").check({"text", "label"}, "reviews.csv")
    first, second = caught.value, *caught.value.others
    assert str(first).splitlines()[0] == "task.txt:1:8: txet: reviews.csv has no field 'txet'"
    assert first.remedy == "did you mean 'text'? known: 'label', 'text'"
    assert (second.column, second.remedy) == (15, "known: 'label', 'text'")


def test_check_says_when_inputs_have_no_fields() -> None:
    with pytest.raises(TemplateError) as caught:
        Template("{text}").check([], "inputs[0]")
    assert caught.value.remedy == "it has no fields at all"


def test_check_accepts_fields_that_nothing_uses() -> None:
    Template("{a}").check(["a", "b"], "inputs")


def test_render_names_a_missing_field() -> None:
    with pytest.raises(TemplateError, match="no field 'text'") as caught:
        Template("{text}").render({"texts": "x"})
    assert "did you mean 'texts'?" in caught.value.remedy


def test_survives_pickling() -> None:
    template = pickle.loads(pickle.dumps(Template("a {b}", "task.txt")))
    assert template.render({"b": "c"}) == "a c"


@given(st.text())
def test_any_text_comes_back_when_its_braces_are_doubled(text: str) -> None:
    template = Template(text.replace("{", "{{").replace("}", "}}"))
    assert template.render({}) == text
    assert template.prefix == text


@given(st.text("{}ab .[]!:\n", max_size=30), st.text())
def test_any_text_is_a_template_or_a_template_error(text: str, value: str) -> None:
    try:
        template = Template(text)
    except TemplateError as error:
        outcome = error.remedy
    else:
        outcome = template.render(dict.fromkeys(template.fields, value)) or "empty"
    assert outcome


@given(st.lists(st.sampled_from(["{a}", "{b}", "{{", "}}", "x\n"]), max_size=8), st.text(), st.text())
def test_rendering_is_concatenation(pieces: list[str], a: str, b: str) -> None:
    values = {"{a}": a, "{b}": b, "{{": "{", "}}": "}", "x\n": "x\n"}
    assert Template("".join(pieces)).render({"a": a, "b": b}) == "".join(values[piece] for piece in pieces)
