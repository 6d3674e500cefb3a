"""A long text cut into chunks, and chunks into passages, always between sentences. Pure.

Chunks tile the text: put together they are the text, character for character. Passages lie inside one chunk each and
overlap, so that what two neighbouring sentences say together stands in one passage; they are what is embedded, for one
vector of 8,000 tokens would mean a little of everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from aurora_swarm.errors import UsageError

CountTokens = Callable[[str], int]

CHUNK_TOKENS = 8_000
"""What a chunk holds at most, where nobody says otherwise."""

PASSAGE_TOKENS = 48
OVERLAP_TOKENS = 12
"""One to three sentences, and a short one of them again: of longer passages a small embedder finds fewer."""

_LEAST_TOKENS = 8
_ABBREVIATIONS = frozenset({"dr", "e.g", "etc", "fig", "i.e", "mr", "mrs", "ms", "nr", "prof", "st", "vs"})
_BORDER = re.compile(
    r"""[.!?]["'\u2019\u201d)\]]*\s+(?=[^\sa-z])  # a full stop, unless the next word begins small
    | [\u3002\uff01\uff1f]["'\u2019\u201d)\]\u300d]*\s*  # those of Chinese and Japanese, which no space follows
    | [^\S\n]*\n\s*                                # the end of a line""",
    re.VERBOSE,
)
_LAST_WORD = re.compile(r"[\w.]+\Z")
_SPACE = re.compile(r"\s")


class Span(NamedTuple):
    """Where something stands in a text.

    Args:
        start: Its first character.
        end: One past its last.
    """

    start: int
    end: int


class Chunk(msgspec.Struct, frozen=True):
    """A part of a text that a model can read as a whole.

    Args:
        number: 1 for the first.
        start: Its first character in the text.
        end: One past its last.
        tokens: How many it has, by whoever counted.
    """

    number: int
    start: int
    end: int
    tokens: int


class Passage(msgspec.Struct, frozen=True):
    """A part of a chunk: what is embedded and found.

    Args:
        number: 1 for the first of the whole text.
        chunk: Number of the chunk that it lies in.
        start: Its first character in the text.
        end: One past its last.
        text: What it says, without white space around it.
    """

    number: int
    chunk: int
    start: int
    end: int
    text: str


def sentences(text: str) -> list[Span]:
    """Where sentences begin and end; white space behind one belongs to it, so that they tile the text.

    A line's end is an end too. Abbreviations and a small letter behind the full stop are not.

    Args:
        text: May be empty, which has none.
    """
    spans: list[Span] = []
    start = 0
    for found in _BORDER.finditer(text):
        if found[0][0] != "." or not _is_abbreviation(text, start, found.start()):
            spans.append(Span(start, found.end()))
            start = found.end()
    if start < len(text):
        spans.append(Span(start, len(text)))
    return spans


def chunks_of(text: str, count: CountTokens, max_tokens: int = CHUNK_TOKENS) -> list[Chunk]:
    """Cut a text into as few chunks as fit, in order, between sentences.

    A sentence that alone is longer is cut between words, a word that alone is longer between characters.

    Args:
        text: May be empty, which has none.
        count: Counts the tokens of a text.
        max_tokens: Tokens of a chunk at most, at least 8.

    Raises:
        UsageError: `max_tokens` is out of range.
    """
    _check(max_tokens, 0)
    return [
        Chunk(number, span.start, span.end, count(text[slice(*span)]))
        for number, span in enumerate(_filled(text, Span(0, len(text)), count, max_tokens, 0), 1)
    ]


def passages_of(
    text: str,
    chunks: Sequence[Chunk],
    count: CountTokens,
    max_tokens: int = PASSAGE_TOKENS,
    overlap_tokens: int = OVERLAP_TOKENS,
) -> list[Passage]:
    """Cut chunks into passages, in order, none across two chunks; those of white space alone are left out.

    Args:
        text: All of it.
        chunks: Of this text.
        count: Counts the tokens of a text.
        max_tokens: Tokens of a passage at most, at least 8.
        overlap_tokens: A passage begins with the last sentences of the one before it, as far as they have no more
            tokens than this; below `max_tokens`.

    Raises:
        UsageError: A number is out of range.
    """
    _check(max_tokens, overlap_tokens)
    found: list[Passage] = []
    for chunk in chunks:
        for span in _filled(text, Span(chunk.start, chunk.end), count, max_tokens, overlap_tokens):
            said = text[slice(*span)].strip()
            if said:
                found.append(Passage(len(found) + 1, chunk.number, span.start, span.end, said))
    return found


def _filled(text: str, within: Span, count: CountTokens, limit: int, overlap: int) -> Iterator[Span]:
    """Runs of whole sentences of at most `limit` tokens, each begun with the end of the one before."""
    part = text[slice(*within)]
    pieces = [piece for span in sentences(part) for piece in _pieces(part, span, count, limit)]
    costs = [count(part[slice(*piece)]) for piece in pieces]
    first, fresh = 0, 0  # of the run, and of what no run has yet
    while fresh < len(pieces):
        end = _end_of_run(costs, first, fresh, limit)
        # Counts of parts need not add up to that of the whole.
        while end > fresh + 1 and count(part[pieces[first].start : pieces[end - 1].end]) > limit:
            end -= 1
        if first < fresh and count(part[pieces[first].start : pieces[end - 1].end]) > limit:
            first = fresh
            continue
        yield Span(within.start + pieces[first].start, within.start + pieces[end - 1].end)
        first, fresh = _begin_of_next(costs, end, overlap), end


def _end_of_run(costs: Sequence[int], first: int, fresh: int, limit: int) -> int:
    """One past the last piece that still fits; there is one fresh piece at least."""
    end, used = fresh + 1, sum(costs[first : fresh + 1])
    while end < len(costs) and used + costs[end] <= limit:
        used += costs[end]
        end += 1
    return end


def _begin_of_next(costs: Sequence[int], end: int, overlap: int) -> int:
    """The first of the last pieces before `end` that together have at most so many tokens."""
    first, left = end, overlap
    while first > 0 and costs[first - 1] <= left:
        first -= 1
        left -= costs[first]
    return first


def _pieces(text: str, span: Span, count: CountTokens, limit: int) -> Iterator[Span]:
    """The span itself where it fits; else its halves, cut between words where there are words."""
    left = [span]
    while left:
        start, end = left.pop()
        if end - start < 2 or count(text[start:end]) <= limit:
            yield Span(start, end)
            continue
        middle = (start + end) // 2
        space = _SPACE.search(text, middle, end - 1)
        cut = space.end() if space else middle
        left += [Span(cut, end), Span(start, cut)]


def _is_abbreviation(text: str, start: int, stop: int) -> bool:
    """Whether the full stop at `stop` belongs to the word before it: a known one, or an initial."""
    word = _LAST_WORD.search(text, max(start, stop - 6), stop)
    if word is None:
        return False
    return word[0].casefold() in _ABBREVIATIONS or (len(word[0]) == 1 and word[0].isupper())


def _check(max_tokens: int, overlap_tokens: int) -> None:
    if max_tokens < _LEAST_TOKENS or not 0 <= overlap_tokens < max_tokens:
        raise UsageError(
            f"parts of {max_tokens} tokens that overlap by {overlap_tokens} cannot be cut",
            remedy=f"give at least {_LEAST_TOKENS} tokens, and an overlap of fewer",
        )
