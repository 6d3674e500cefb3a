"""Chunks tile the text, hold what they may, and end where sentences do; passages lie inside them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import UsageError
from aurora_swarm.memory.chunks import chunks_of, passages_of, sentences
from aurora_swarm.tools.texts import estimated_tokens

TEXTS = st.lists(
    st.sampled_from(
        [
            "The pump runs.",
            "Is it on? ",
            "Dr. Xu came.",
            "3.5 m",
            "\n",
            "\n\n",
            " ",
            "水泵在转。",
            "a" * 90,
            "So be it! ",
        ]
    )
    | st.text(max_size=30)
).map(" ".join)


def words(text: str) -> int:
    return len(text.split())


def said(text: str) -> list[str]:
    return [text[slice(*span)].strip() for span in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ('He said "no." She left.', ['He said "no."', "She left."]),
        ("It is 3.5 m, e.g. Here. It goes on.", ["It is 3.5 m, e.g. Here.", "It goes on."]),
        ("Dr. Xu met J. Smith. They talked.", ["Dr. Xu met J. Smith.", "They talked."]),
        ("It grew by 3 cm. per day.", ["It grew by 3 cm. per day."]),
        ("A heading\nA line\n\nA paragraph", ["A heading", "A line", "A paragraph"]),
        ("水泵在转。温度很高\uff01好", ["水泵在转。", "温度很高\uff01", "好"]),
        ("  no end", ["no end"]),
    ],
)
def test_sentences_end_where_a_reader_would_say(text: str, expected: list[str]) -> None:
    assert said(text) == expected


@given(TEXTS, st.integers(8, 60), st.sampled_from([words, estimated_tokens, len]))
def test_chunks_put_together_are_the_text_and_none_is_too_long(text: str, limit: int, count) -> None:
    chunks = chunks_of(text, count, limit)
    assert "".join(text[each.start : each.end] for each in chunks) == text
    assert [each.number for each in chunks] == list(range(1, len(chunks) + 1))
    for each in chunks:
        assert each.tokens == count(text[each.start : each.end]) <= limit


@given(TEXTS, st.integers(20, 60), st.integers(8, 40), st.integers(0, 7))
def test_passages_lie_in_their_chunks_and_leave_nothing_out(text: str, limit: int, small: int, overlap: int) -> None:
    chunks = chunks_of(text, estimated_tokens, limit)
    passages = passages_of(text, chunks, estimated_tokens, small, overlap)
    assert [each.number for each in passages] == list(range(1, len(passages) + 1))
    covered = set()
    for each in passages:
        chunk = chunks[each.chunk - 1]
        assert chunk.start <= each.start < each.end <= chunk.end
        assert each.text == text[each.start : each.end].strip() != ""
        assert estimated_tokens(each.text) <= small
        covered.update(range(each.start, each.end))
    assert all(text[place].isspace() for place in range(len(text)) if place not in covered)


def test_chunks_end_between_sentences() -> None:
    text = "".join(f"Sentence number {n} stands here. " for n in range(48))
    chunks = chunks_of(text, words, 23)
    assert all(text[each.start : each.end].endswith("here. ") for each in chunks)
    assert {each.tokens for each in chunks} == {20}


def test_a_sentence_longer_than_a_chunk_is_cut_between_words() -> None:
    text = "word " * 100 + "end."
    chunks = chunks_of(text, words, 10)
    assert all(each.tokens <= 10 for each in chunks)
    assert {word for each in chunks for word in text[each.start : each.end].split()} == {"word", "end."}


def test_neighbouring_passages_share_a_sentence() -> None:
    text = "One is red. Two is blue. Three is green. Four is grey. Five is pink. "
    passages = passages_of(text, chunks_of(text, words), words, max_tokens=9, overlap_tokens=3)
    assert [each.text for each in passages] == [
        "One is red. Two is blue. Three is green.",
        "Three is green. Four is grey. Five is pink.",
    ]


def test_counts_that_do_not_add_up_are_counted_again() -> None:
    """Whoever charges a token more for every joint must not make chunks too long."""

    def count(text: str) -> int:
        return len(text) + 3 * max(0, text.count(".") - 1)

    text = "Aa bb. " * 40
    chunks = chunks_of(text, count, 50)
    assert all(count(text[each.start : each.end]) == each.tokens <= 50 for each in chunks)
    assert {each.end - each.start for each in chunks} == {35}


@pytest.mark.parametrize(("size", "overlap"), [(7, 0), (8, 8), (20, -1)])
def test_parts_that_cannot_be_cut_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(UsageError, match=f"{size} tokens that overlap by {overlap}"):
        passages_of("A text.", [], words, size, overlap)
