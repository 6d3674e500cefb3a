"""How much of something bounded each of several owners may use. Pure."""

from __future__ import annotations

from collections.abc import Mapping


def fair_part(wants: Mapping[str, int], owner: str, total: int) -> int:
    """An owner's equal part, larger where others want less than theirs.

    What does not divide goes to the owners whose names come first, one each; so all of them come to the same parts.

    Args:
        wants: How much each owner could use.
        owner: One of them.
        total: How much there is.

    Returns:
        At most what the owner wants; the parts of all owners together are at most `total`.
    """
    left = max(0, total)
    waiting = sorted(wants, key=lambda name: (wants[name], name))
    while waiting:
        part = left // len(waiting)
        if wants[waiting[0]] > part:
            break
        name = waiting.pop(0)
        if name == owner:
            return max(0, wants[name])
        left -= max(0, wants[name])
    part, rest = divmod(left, len(waiting))
    return part + (sorted(waiting).index(owner) < rest)


def granted(*, part: int, held: int, free: int) -> int:
    """What an owner gets: its part as far as that is free, and never less than it holds at this moment.

    Args:
        part: Its fair part.
        held: What it uses now; 0 where it may not keep that.
        free: What the others leave.
    """
    return max(held, min(part, max(0, free)))
