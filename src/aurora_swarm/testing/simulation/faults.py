"""What can be wrong with an endpoint in memory, and which error a caller may see for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from aurora_swarm.errors import (
    AbortedError,
    AttemptTimeoutError,
    BadResponseError,
    CallError,
    ConnectError,
    ConnectionLostError,
    OverloadedError,
    ServerError,
    TruncatedError,
    UsageError,
    WrongModelError,
)

Kind = Literal[
    "refuse",
    "reset",
    "hang",
    "gray",
    "server_error",
    "overloaded",
    "garbage",
    "truncated",
    "abort",
    "wrong_model",
    "lost_parts",
    "slow",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Every kind of fault."""

ERRORS: Mapping[Kind, tuple[type[CallError], ...]] = {
    "refuse": (ConnectError, ConnectionLostError),
    "reset": (ConnectionLostError,),
    "hang": (AttemptTimeoutError,),
    "gray": (AttemptTimeoutError,),
    "server_error": (ServerError,),
    "overloaded": (OverloadedError,),
    "garbage": (BadResponseError,),
    "truncated": (TruncatedError,),
    "abort": (AbortedError,),
    "wrong_model": (WrongModelError,),
    "lost_parts": (BadResponseError,),
    "slow": (AttemptTimeoutError,),
}
"""The errors that a fault of each kind may end an attempt with."""

SEEN_BY_PROBES: frozenset[Kind] = frozenset(("refuse", "hang", "server_error"))
"""Kinds that a probe meets too; the rest only shows when something is generated."""

SEEN_BY_PARTS: frozenset[Kind] = frozenset(("lost_parts",))
"""Kinds that only a request of several calls meets."""


class Fault(msgspec.Struct, frozen=True):
    """One way in which an endpoint fails.

    The kinds: ``refuse`` (no connection; at rate 1, what is under way when it begins loses its connection),
    ``reset`` (the connection is lost half-way), ``hang`` (no answer ever, not even to a probe), ``gray`` (answers
    probes, generates nothing), ``server_error`` (500), ``overloaded`` (429), ``garbage``, ``truncated``, ``abort``,
    ``wrong_model``, ``lost_parts`` (a request of several calls lacks some answers), ``slow`` (`factor` times slower).

    Args:
        kind: See above.
        rate: Share of the requests that meet it, 0 to 1.
        start_s: When it begins, on the loop's clock.
        end_s: When it is over.
        period_s: Where above 0, it comes and goes: on for the first half of every period since `start_s`.
        delay_s: Seconds until a request that meets it fails, where the fault says no other time.
        retry_after_s: What ``overloaded`` asks for; None for nothing.
        factor: See ``slow``.

    Raises:
        UsageError: The kind is unknown, or a number makes no sense.
    """

    kind: Kind
    rate: float = 1.0
    start_s: float = 0.0
    end_s: float = math.inf
    period_s: float = 0.0
    delay_s: float = 0.001
    retry_after_s: float | None = None
    factor: float = 100.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"{self.kind} is no kind of fault", remedy=f"the kinds are: {', '.join(KINDS)}")
        if not (0 <= self.rate <= 1 and self.period_s >= 0 and self.delay_s >= 0 and self.factor > 0):
            raise UsageError("rate must be 0 to 1, period_s and delay_s not negative, factor above 0")

    def is_on(self, now: float) -> bool:
        """Whether a request that is sent now can meet it."""
        if not self.start_s <= now < self.end_s:
            return False
        return not self.period_s or (now - self.start_s) % self.period_s < self.period_s / 2

    def next_start(self, now: float) -> float:
        """When it begins next, after `now`; infinity for never again."""
        if now < self.start_s:
            return self.start_s
        if not self.period_s:
            return math.inf
        start_s = self.start_s + self.period_s * (math.floor((now - self.start_s) / self.period_s) + 1)
        return start_s if start_s < self.end_s else math.inf

    @property
    def cuts(self) -> bool:
        """Whether what is under way when it begins is lost."""
        return self.kind == "refuse" and self.rate >= 1

    @property
    def is_deadly(self) -> bool:
        """Whether no request is answered while it is on."""
        return self.rate >= 1 and self.kind not in {"slow", "lost_parts"}
