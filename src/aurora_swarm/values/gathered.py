"""What a pattern gives back: responses, or one made of many, and how complete it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import msgspec

from aurora_swarm.errors import CallError
from aurora_swarm.values.outcome import Response
from aurora_swarm.values.reply import Usage


class Gathered(list[Response]):
    """Responses in the order in which they were asked for; a list that can sum itself up."""

    @property
    def n_ok(self) -> int:
        """How many are answers."""
        return sum(response.success for response in self)

    @property
    def n_failed(self) -> int:
        """How many are not."""
        return len(self) - self.n_ok

    @property
    def missing(self) -> tuple[int, ...]:
        """Positions of those that are not."""
        return tuple(i for i, response in enumerate(self) if not response.success)

    @property
    def attempts(self) -> int:
        """Requests that were sent for all of them."""
        return sum(response.attempts for response in self)

    @property
    def usage(self) -> Usage:
        """Tokens spent on all of them."""
        return sum((response.usage for response in self), Usage())


class Reduced(Response, frozen=True, gc=False):
    """One answer made of many. `attempts` and `usage` count everything that was spent on it.

    Args:
        n_ok: Answers that went into it.
        n_failed: Those that did not: their call, or one that was to take them in, failed.
        missing: Positions of the latter.
    """

    n_ok: int = 0
    n_failed: int = 0
    missing: tuple[int, ...] = ()

    @classmethod
    def of(cls, last: Response, spent: Sequence[Response], size: int, missing: Sequence[int]) -> Self:
        """The last response with the account of what led to it.

        Args:
            last: What the final call gave.
            spent: Every response on the way, `last` included where it was asked for.
            size: How many answers were wanted.
            missing: Positions of those that are not in it.
        """
        fields = {name: getattr(last, name) for name in Response.__struct_fields__}
        fields["attempts"] = sum(response.attempts for response in spent)
        fields["usage"] = sum((response.usage for response in spent), Usage())
        return cls(**fields, n_ok=size - len(missing), n_failed=len(missing), missing=tuple(sorted(missing)))

    def without_answer(self, error: CallError) -> Self:
        """The same account, with an error in place of the answer."""
        return msgspec.structs.replace(self, success=False, text="", error=error, finish_reason="")
