"""What others have found, as a prompt may show it: data in an envelope, within a number of tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aurora_swarm.patterns.fan_in import cut
from aurora_swarm.swarms.excerpts import shortened

BYTES_PER_TOKEN = 4
"""As long as no tokenizer is asked; what is not English has fewer, so that less than was allowed is shown of it."""

LEAST = 48
"""Tokens below which a finding is left out rather than shown: little can be said in them."""

ABOUT_CHARS = 80
"""Characters that are shown of what a finding is about."""

FRAME = 24
"""Tokens of a finding's line besides its text."""


class Finding(msgspec.Struct, frozen=True):
    """One line of the envelope.

    Args:
        about: What was asked.
        found: What was answered.
        by: Who found it.
    """

    about: str
    found: str
    by: str = ""


def in_envelope(findings: Sequence[Finding], tokens: int) -> str:
    """Findings as JSON, one a line, so that no text in them can end the envelope.

    Each has an even share of the room, and what short ones leave goes to long ones, of which the beginning and the end
    are kept. Where even a short part of each does not fit, the first ones are shown.

    Args:
        findings: The most important first.
        tokens: What they may have together.

    Returns:
        The lines; empty when there is nothing to show.
    """
    kept = [_headed(each) for each in findings[: max(tokens, 0) // LEAST]]
    rooms = _shares([_tokens(each.found) + _tokens(each.about) + FRAME for each in kept], tokens)
    return "\n".join(_line(each, room - FRAME - _tokens(each.about)) for each, room in zip(kept, rooms, strict=True))


def _headed(finding: Finding) -> Finding:
    return msgspec.structs.replace(finding, about=shortened(finding.about, ABOUT_CHARS))


def _line(finding: Finding, room: int) -> str:
    found = cut(finding.found, _tokens(finding.found), max(room, 1))
    data = {"about": finding.about, "by": finding.by, "found": found}
    return msgspec.json.encode({name: encodable(text) for name, text in data.items() if text}).decode()


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """What each gets of a room: all that it wants, or an even share of what the others leave."""
    shares = [0] * len(wanted)
    for place, index in enumerate(sorted(range(len(wanted)), key=lambda each: wanted[each])):
        shares[index] = min(wanted[index], room // (len(wanted) - place))
        room -= shares[index]
    return shares


def encodable(text: str) -> str:
    """The text; lone surrogates, which no JSON holds, become question marks."""
    return text.encode(errors="replace").decode()


def _tokens(text: str) -> int:
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN + 1
