"""What can be wrong with a simulated server."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from aurora_swarm.errors import UsageError

Kind = Literal[
    "refuse",
    "reset",
    "hang_before_head",
    "hang_after_head",
    "drip",
    "cut",
    "status",
    "garbage",
    "html",
    "wrong_types",
    "error_200",
    "choices_reordered",
    "choices_missing",
    "choices_duplicated",
    "abort",
    "dies_mid_batch",
    "flap",
    "gray",
    "wrong_model",
    "smaller_context",
    "slow",
    "straggle",
]
KINDS: tuple[str, ...] = get_args(Kind)
"""Every kind of fault."""

_CLOSED = frozenset(("refuse", "flap"))
_STATES = frozenset(("wrong_model", "smaller_context"))
_SEEN_BY_PROBES = frozenset(
    ("reset", "hang_before_head", "hang_after_head", "drip", "cut", "garbage", "html", "wrong_types", "error_200")
)
DEADLY = _SEEN_BY_PROBES | {"refuse", "status", "gray", "abort"}
"""Kinds with which, at rate 1, no request is answered."""


class Fault(msgspec.Struct, frozen=True):
    """One way in which a server fails.

    The kinds, by what a client sees:

    - ``refuse``: no connection. ``flap``: no connection for half of every `period_s`, and open ones are reset then.
    - ``reset``, ``hang_before_head``, ``hang_after_head``, ``drip`` (a byte per `pause_s`), ``cut`` (the connection
      ends after `at` bytes, head included).
    - ``status`` (with `status` and `retry_after`), ``garbage`` (no HTTP), ``html`` (502 and a page), ``wrong_types``,
      ``error_200`` (an error object with status 200).
    - ``choices_reordered``, ``choices_missing``, ``choices_duplicated``; ``dies_mid_batch`` (a request for several
      answers ends when half of them are there; with `at`, it is answered with the first `at` choices); ``abort`` (the
      engine gives up: finish reason ``abort``; where a wire has none, status 500).
    - ``gray``: healthy to every look, and no token ever. ``wrong_model``: lists another. ``smaller_context``: a quarter
      of the planned one. ``slow``: `factor` times slower (10). ``straggle``: so are single requests (100).

    A ``GET`` meets the kinds of the second line too, and ``status`` from 500 on, ``garbage``, ``html``, ``wrong_types``
    and ``error_200``; the others leave it alone.

    Args:
        kind: See above.
        rate: Share of the requests that meet it; 0 to 1. Nothing to ``refuse``, ``flap``, ``wrong_model`` and
            ``smaller_context``.
        after_s: It begins so many seconds after the server's start.
        until_s: It ends so many seconds after the server's start.
        share: Where it is given for a fleet: share of the servers that have it; 0 to 1.
        status: HTTP status of ``status``.
        retry_after: The header as it is sent with ``status``; ``date`` for a date two seconds ahead; None for none.
        at: See the kinds.
        pause_s: See ``drip``.
        period_s: See ``flap``.
        factor: See ``slow`` and ``straggle``; 0 for theirs.
    """

    kind: Kind
    rate: float = 1.0
    after_s: float = 0.0
    until_s: float = 1e12
    share: float = 1.0
    status: int = 500
    retry_after: str | None = None
    at: int = 0
    pause_s: float = 1.0
    period_s: float = 2.0
    factor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"{self.kind} is no kind of fault", remedy=f"the kinds are: {', '.join(KINDS)}")
        if not (0 <= self.rate <= 1 and 0 <= self.share <= 1):
            raise UsageError(f"rate {self.rate:g} or share {self.share:g} of {self.kind} is not between 0 and 1")
        if not (self.pause_s > 0 and self.period_s > 0 and self.factor >= 0 and math.isfinite(self.factor)):
            raise UsageError("pause_s and period_s must be above 0, factor not negative")
        if self.at < 0 or not 200 <= self.status <= 599:
            raise UsageError("at must not be negative, status between 200 and 599")

    @property
    def closes(self) -> bool:
        """Whether it is about connections rather than requests."""
        return self.kind in _CLOSED

    @property
    def of_requests(self) -> bool:
        """Whether single requests meet it."""
        return self.kind not in _CLOSED and self.kind not in _STATES

    @property
    def for_looks(self) -> bool:
        """Whether a ``GET`` meets it too."""
        return self.kind in _SEEN_BY_PROBES or (self.kind == "status" and self.status >= 500)

    @property
    def kills(self) -> bool:
        """Whether nothing is answered while it lasts."""
        return self.kind in DEADLY and self.rate >= 1

    @property
    def slowdown(self) -> float:
        """How many times longer a sequence takes."""
        if self.kind == "slow":
            return self.factor or 10.0
        return (self.factor or 100.0) if self.kind == "straggle" else 1.0

    def active(self, age_s: float) -> bool:
        """Whether it is on.

        Args:
            age_s: Seconds since the server's start.
        """
        return self.after_s <= age_s < self.until_s

    def closed(self, age_s: float) -> bool:
        """Whether connections are refused because of it."""
        if not self.closes or not self.active(age_s):
            return False
        return self.kind == "refuse" or (age_s - self.after_s) % self.period_s >= self.period_s / 2

    def next_change(self, age_s: float) -> float | None:
        """The age at which `closed` may next change; None for never."""
        if not self.closes or age_s >= self.until_s:
            return None
        if age_s < self.after_s:
            return self.after_s
        if self.kind == "refuse":
            return self.until_s
        half = self.period_s / 2
        return min(self.after_s + (math.floor((age_s - self.after_s) / half + 1e-9) + 1) * half, self.until_s)


FaultPlan = Mapping[int, Fault | Sequence[Fault]] | Sequence[Fault]
"""Faults by server, or faults of a whole fleet, each with its share."""


def place_faults(count: int, faults: FaultPlan, seed: int = 0) -> dict[int, tuple[Fault, ...]]:
    """Which server has which faults.

    Faults of a whole fleet with a share below 1 go to different servers as long as there are any left.

    Args:
        count: How many servers there are.
        faults: By server, or for the fleet.
        seed: The same seed gives the same servers.

    Raises:
        UsageError: A server is named that does not exist.
    """
    if isinstance(faults, Mapping):
        if wrong := [index for index in faults if not 0 <= index < count]:
            raise UsageError(f"there is no server {wrong[0]}", remedy=f"the fleet has servers 0 to {count - 1}")
        return {index: as_tuple(given) for index, given in faults.items()}
    placed: dict[int, tuple[Fault, ...]] = {}
    dice = random.Random(seed)  # noqa: S311 - no secret
    free = dice.sample(range(count), count)
    for fault in faults:
        if fault.share >= 1:
            chosen: Iterable[int] = range(count)
        else:
            wanted = round(fault.share * count)
            if len(free) < wanted:  # the rest have a fault already
                free += dice.sample(sorted(set(range(count)).difference(free)), count - len(free))
            chosen, free = free[:wanted], free[wanted:]
        for index in chosen:
            placed[index] = (*placed.get(index, ()), fault)
    return placed


def as_tuple(given: Fault | Sequence[Fault] | None) -> tuple[Fault, ...]:
    """No fault, one or several, as a tuple."""
    if given is None:
        return ()
    return (given,) if isinstance(given, Fault) else tuple(given)
