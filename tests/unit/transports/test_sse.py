"""Server-sent events survive every cutting, every line end and everything that is no event."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm.transports.sse import SseParser


def events_of(*chunks: bytes) -> list[bytes]:
    parser = SseParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


lines = st.text(alphabet=st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=20)


@given(
    events=st.lists(st.lists(lines, min_size=1, max_size=3), max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_events_are_the_same_however_the_bytes_are_cut(events: list[list[str]], end: str, cuts: list[int]) -> None:
    text = "".join("".join(f"data: {line}{end}" for line in event) + end for event in events)
    raw = text.encode()
    borders = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    chunks = [raw[a:b] for a, b in pairwise(borders)]
    assert events_of(*chunks) == ["\n".join(event).encode() for event in events]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b": ping\n\ndata: a\n\n", [b"a"]),
        (b"event: message\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"data:a\n\ndata:  a\n\n", [b"a", b" a"]),
        (b"data\n\n", [b""]),
        (b"\n\n\r\n\r\rdata: a\r\r", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
        (b"data: a: b\n\n", [b"a: b"]),
        (b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"]),
        (b"database: a\n\n", []),
    ],
)
def test_lines_mean_what_the_standard_says(raw: bytes, expected: list[bytes]) -> None:
    assert events_of(raw) == expected
    assert events_of(*(bytes([byte]) for byte in raw)) == expected


@pytest.mark.parametrize("raw", [b"data: a", b"data: a\n", b"data: a\r"])
def test_an_event_without_its_end_is_not_given(raw: bytes) -> None:
    assert events_of(raw) == []


def test_a_long_line_in_small_pieces_takes_linear_work() -> None:
    parser = SseParser()
    assert [parser.feed(b"x" * 10) for _ in range(50_000)][-1] == []
    assert parser.feed(b"\n\ndata: a\n\n") == [b"a"]
