"""Where fields stand: what all share first, once, and nothing of it read as a template."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.batch.hoisting import LEAST_CHARS, fenced, fields_in_common, lay_out
from aurora_swarm.errors import TemplateError
from aurora_swarm.inputs.template import Template

LONG = "A rule that matters. " * 20
STRANGE = st.text() | st.sampled_from(
    ["{text}", "}}{{", "\x00", "\ud800", "=== end of a ===", "[a, as given above]", LONG]
)
VALUES = st.one_of(STRANGE, st.integers(), st.none(), st.booleans(), st.lists(STRANGE, max_size=2))


def laid_out(task, inputs):
    template = Template(task)
    return lay_out(template, fields_in_common(template, inputs))


def test_a_long_field_behind_one_that_differs_is_said_once_in_front_and_referred_to():
    layout = laid_out("Review {text} by this guide: {guide}", [{"text": t, "guide": LONG} for t in "ab"])
    assert layout.block == f"Shared by all tasks:\n\n=== guide ===\n{LONG}\n=== end of guide ===\n\n"
    assert layout.task({"text": "a"}) == "Review a by this guide: [guide, as given above]"


def test_what_a_task_begins_with_stays_in_its_place():
    layout = laid_out("By this guide: {guide}\n\nreview {text}", [{"text": t, "guide": LONG} for t in "ab"])
    assert layout.block == ""
    assert layout.head == f"By this guide: {LONG}\n\nreview "
    assert layout.task({"text": "a"}) == f"By this guide: {LONG}\n\nreview a"


def test_a_short_field_stays_in_its_place():
    layout = laid_out("Translate {text} to {language}", [{"text": t, "language": "Latin"} for t in "ab"])
    assert (layout.block, layout.task({"text": "a"})) == ("", "Translate a to Latin")


def test_a_field_that_is_used_twice_is_said_once():
    layout = laid_out("{guide} {text} {guide}", [{"text": t, "guide": LONG} for t in "ab"])
    whole = layout.block + layout.task({"text": "a"})
    assert whole.count(LONG) == 1
    assert whole.count("[guide, as given above]") == 2


@pytest.mark.parametrize(
    ("inputs", "common"),
    [
        ([], {}),
        ([{"a": "1"}], {}),
        ([{"a": "1"}, {"a": "1"}], {"a": "1"}),
        ([{"a": "1"}, {"a": "1"}, {"a": "2"}], {}),
        ([{"a": "1"}, {}], {}),
        ([{"a": "1", "other": "x"}, {"a": "1", "other": "x"}], {"a": "1"}),
        ([{"a": 1}, {"a": True}], {}),
        ([{"a": [1]}, {"a": [True]}], {}),
        (["no mapping", {"a": "1"}], {}),
        ([{"a": "1"}, None], {}),
    ],
)
def test_a_field_is_in_common_only_where_all_inputs_would_write_it_alike(inputs, common):
    assert fields_in_common(Template("{a}"), inputs) == common


def test_one_object_in_all_inputs_is_in_common():
    rules = {"rules": [1, 2]}
    found = fields_in_common(Template("{x} {rules}"), [{"x": n, "rules": rules} for n in range(3)])
    assert found == {"rules": rules}


def test_a_list_in_which_nothing_is_shared_is_looked_at_only_as_far_as_its_second_input():
    class Inputs(list):
        seen = 0

        def __iter__(self):
            for each in super().__iter__():
                self.seen += 1
                yield each

    inputs = Inputs({"text": str(n)} for n in range(1000))
    assert fields_in_common(Template("{text}"), inputs) == {}
    assert inputs.seen <= 3


def test_a_shared_value_that_cannot_be_written_is_refused():
    with pytest.raises(TemplateError, match="cannot be written as JSON"):
        lay_out(Template("{x} {y}"), {"y": object()})


@pytest.mark.parametrize("text", ["", "plain", "=== end of a ===", "===== end of a =====", "=" * 1_000_000])
def test_the_line_that_ends_a_field_does_not_occur_in_it(text):
    lines = fenced("a", text).split("\n")
    assert fenced("a", text).count(lines[-1]) == 1
    assert "\n".join(lines[1:-1]) == text


@given(
    parts=st.lists(
        st.one_of(st.sampled_from(["{a}", "{b}", "{c}", "{{", "}}"]), st.text(string.ascii_letters)), max_size=9
    ),
    shared=st.dictionaries(st.sampled_from("ab"), VALUES),
    own=st.fixed_dictionaries(dict.fromkeys("abc", STRANGE)),
)
def test_a_layout_says_what_the_template_says_with_references_for_what_was_moved(parts, shared, own):
    template = Template("".join(parts))
    layout = lay_out(template, shared)
    fields = {**own, **shared}
    texts = {name: Template(f"{{{name}}}").render(fields) for name in fields}
    moved = {name for name in texts if f"=== {name} ===\n" in layout.block and name in layout.shared}
    said = {**texts, **{name: f"[{name}, as given above]" for name in moved if len(texts[name]) >= LEAST_CHARS}}
    assert layout.task(texts) in {template.render(said), template.render(texts)}
    assert layout.task(texts).startswith(layout.head)
    if not layout.block:
        assert layout.task(texts) == template.render(texts)
    else:
        assert all(fenced(name, texts[name]) in layout.block for name in said if said[name] != texts[name])
