"""What others have found, as a prompt shows it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.swarms.findings import BYTES_PER_TOKEN, Finding, in_envelope

TEXTS = st.text(max_size=3_000)


@given(st.lists(st.builds(Finding, TEXTS.map(lambda t: t[:80]), TEXTS, st.sampled_from(["a", "b"])), max_size=8),
       st.integers(0, 2_000))  # fmt: skip
def test_every_line_is_json_and_nothing_in_it_ends_the_envelope(findings, tokens):
    lines = in_envelope(findings, tokens).split("\n")
    for line in lines if lines != [""] else []:
        assert json.loads(line).keys() <= {"about", "by", "found"}


def test_it_stays_within_its_tokens_and_shows_a_part_of_each():
    findings = [Finding(f"topic {i}", f"{i} " * 2_000, "a") for i in range(5)]
    shown = in_envelope(findings, 500)
    assert len(shown) <= 500 * BYTES_PER_TOKEN
    assert [json.loads(line)["about"] for line in shown.split("\n")] == [f"topic {i}" for i in range(5)]
    assert all("characters left out" in line for line in shown.split("\n"))


def test_short_ones_leave_their_room_to_long_ones():
    shown = in_envelope([Finding("a", "x" * 900), Finding("b", "short")], 300)
    assert "x" * 900 in shown


def test_the_first_ones_are_shown_where_not_all_fit():
    shown = in_envelope([Finding(f"t{i}", "x" * 400) for i in range(10)], 100)
    assert [json.loads(line)["about"] for line in shown.split("\n")] == ["t0", "t1"]
    assert in_envelope([Finding("t", "x")], 0) == ""


def test_lone_surrogates_do_not_break_it():
    assert json.loads(in_envelope([Finding("a", "\ud800!")], 100))["found"] == "?!"
