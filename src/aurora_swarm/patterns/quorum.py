"""How many answers are enough. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from aurora_swarm.errors import QuorumError, UsageError
from aurora_swarm.values.outcome import Response

Quorum = int | float
"""A number of answers, or with a fraction a share: 3 is three of them, 0.9 nine in ten, 1.0 all."""


def least(quorum: Quorum, size: int) -> int:
    """The number of answers that are enough.

    Args:
        quorum: As the user gave it.
        size: How many are asked.

    Raises:
        UsageError: It is below one answer, above `size`, or above 1.0.
    """
    if isinstance(quorum, float):
        if not 0 < quorum <= 1:
            raise UsageError(f"quorum is {quorum}", remedy="give a share above 0 and up to 1.0, or a whole number")
        return -int(-quorum * size // 1)
    if not 1 <= quorum <= max(size, 1):
        raise UsageError(f"quorum is {quorum} of {size}", remedy=f"give a number from 1 to {size}, or a share")
    return quorum


def shortfall(size: int, failures: Iterable[Response], n_ok: int, needed: int) -> QuorumError:
    """Why there is no answer: how many answered, how many were needed, and the first failure."""
    first = next((f"; the first failure: {r.error}" for r in failures if r.error is not None), "")
    problem = f"{n_ok} of {size} answers are in the result, {needed} are needed{first}"
    return QuorumError(problem, n_ok=n_ok, n_failed=size - n_ok)
