"""Texts of agents in prompts for others: data between marks."""

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.inputs.template import Template
from aurora_swarm.swarms.architectures.showing import distinct, enclosed, fitted, literal, material, safe
from aurora_swarm.values.outcome import Response

from .conftest import among

TEXTS = st.text(st.sampled_from('</>answer material n="1"\n{}x'), max_size=60)


def responses(*texts):
    return [Response(text is not None, text or "", None, 0) for text in texts]


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_no_text_closes_its_marks(texts):
    shown = enclosed(texts)
    assert shown.count("</answer>") == len(texts)
    assert len(among(shown)) == len(texts)
    assert material(texts[0]).count("</material>") == 1


@given(TEXTS)
def test_what_is_safe_stays_as_it_is(text):
    assert safe(safe(text)) == safe(text)


@given(TEXTS)
def test_a_literal_stands_for_itself_in_a_template(text):
    assert Template(literal(text)).render({}) == text


def test_different_answers_are_counted_and_failures_left_out():
    assert distinct(responses("red", None, " Red. ", "blue")) == [("red", 2), ("blue", 1)]
    assert distinct(responses("red", "blue", "blue")) == [("blue", 2), ("red", 1)]
    assert distinct(responses("a1", "a2", "b1"), lambda text: text[0]) == [("a1", 2), ("b1", 1)]


def test_texts_are_cut_to_their_share_and_short_ones_are_left():
    short, long = fitted(["short", "b" + "x" * 1_000 + "e"], [1, 1_002], 400)
    assert short == "short"
    assert long.startswith("bx")
    assert long.endswith("xe")
    assert "left out" in long
    assert len(long) < 250
