"""How an error is told to a user: what is wrong and where, then what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aurora_swarm.cli.voice import say
from aurora_swarm.errors import AuroraSwarmError, InputError, StorageError


def complain(error: AuroraSwarmError) -> None:
    """Print an error on stderr."""
    say("\n".join(sentences(error)))


def sentences(error: AuroraSwarmError) -> Iterator[str]:
    """The lines that tell an error: ``error: ...``, then ``  try: ...``; all errors of one source in their order.

    A remedy that is the same as the next error's is said once, after the last of them.
    """
    errors = [error, *error.others] if isinstance(error, InputError) else [error]
    for one, following in zip(errors, [*errors[1:], None], strict=True):
        yield f"error: {_own_sentence(one)}"
        if isinstance(one, StorageError) and one.unsaved:
            yield f"  unsaved: {ranges(one.unsaved)} (indices of inputs whose results are not on disk)"
        if one.remedy and (following is None or following.remedy != one.remedy):
            yield f"  try: {one.remedy}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as people write them: ``1, 3-5, 9``."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _own_sentence(error: AuroraSwarmError) -> str:
    """The sentence of one error, without those that it carries along."""
    if not isinstance(error, InputError):
        return str(error)
    return ": ".join(part for part in (error.place, error.field, error.problem) if part)
