"""Citations of chunks: how an answer writes them, and whether what it cites is there. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import msgspec

_CITED = re.compile(r"\[chunks?\s+(\d{1,9}(?:\s*(?:,|and)\s*\d{1,9})*)\]", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")


class Citations(msgspec.Struct, frozen=True):
    """What a text cites.

    Args:
        chunks: Numbers of chunks that there are, each once, in the order of their first citation.
        unknown: Numbers that it cites and that there are not.
    """

    chunks: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it cites something, and nothing that is not there."""
        return bool(self.chunks) and not self.unknown


def citations_in(text: str, allowed: Collection[int]) -> Citations:
    """What a text cites as ``[chunk 3]`` or ``[chunks 3, 5]``.

    Args:
        text: An answer.
        allowed: Numbers of the chunks that it may cite.
    """
    numbers = dict.fromkeys(int(n) for found in _CITED.findall(text) for n in _NUMBER.findall(found))
    known = tuple(number for number in numbers if number in allowed)
    return Citations(known, tuple(number for number in numbers if number not in allowed))


def with_citations(text: str, chunks: Iterable[int]) -> str:
    """A text that cites these chunks at its end, and no others."""
    bare = " ".join(_CITED.sub("", text).split())
    return " ".join([bare, *(f"[chunk {number}]" for number in dict.fromkeys(chunks))])
