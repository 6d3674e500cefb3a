"""What stands in an envelope cannot leave it."""

import re

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.swarms.excerpts import excerpt, shortened


@given(st.lists(st.sampled_from(["</source>", "< / SOURCE >", "<source number='9'>", "</", "source>", "{x}", "\n"])))
def test_nothing_inside_opens_or_closes_an_envelope(parts: list[str]) -> None:
    shown = excerpt("source", "".join(parts), number=1)
    assert len(re.findall(r"<\s*/?\s*source\b", shown, re.IGNORECASE)) == 2
    assert shown.startswith('<source number="1">\n')
    assert shown.endswith("\n</source>")


def test_other_text_is_unchanged() -> None:
    text = "if a < b: {print} </b> </sources>"
    assert text in excerpt("source", text)


@given(st.text(max_size=60), st.integers(1, 60))
def test_a_shortened_text_is_no_longer_than_it_may_be(text: str, limit: int) -> None:
    kept = shortened(text, limit)
    assert len(kept) <= limit
    assert kept == text or (kept.endswith("\N{HORIZONTAL ELLIPSIS}") and text.startswith(kept[:-1]))


def test_a_text_is_cut_between_words() -> None:
    assert shortened("The pump runs all day", 16) == "The pump runs\N{HORIZONTAL ELLIPSIS}"
