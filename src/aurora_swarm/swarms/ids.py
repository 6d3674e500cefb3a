"""Ids of agents, tasks and messages: unique, and sorted by when they were made.

The form is that of ULID (https://github.com/ulid/spec): 48 bits of milliseconds and 80 random ones, in 26 characters of
Crockford's base 32.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHARACTERS = 26
_RANDOM_BITS = 80
_MOST = (1 << 128) - 1


class Ids:
    """Makes ids; those of one maker are strictly ascending, whatever the clock does.

    Args:
        now_ms: Milliseconds since 1970.
        dice: For the random part; by default from the operating system, so that makers in two processes never collide.
    """

    def __init__(self, now_ms: Callable[[], int] | None = None, dice: random.Random | None = None) -> None:
        self._now_ms = now_ms or _milliseconds
        self._dice = dice or random.SystemRandom()
        self._last = -1

    def __call__(self) -> str:
        """The next id. Within a millisecond it is one more than the last, as ULID allows: dice cost a system call."""
        now_ms = self._now_ms()
        if now_ms > self._last >> _RANDOM_BITS:
            self._last = now_ms << _RANDOM_BITS | self._dice.getrandbits(_RANDOM_BITS)
        else:
            self._last += 1
        return _spelt(min(self._last, _MOST))


def _spelt(number: int) -> str:
    return "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(_CHARACTERS)))


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


new_id = Ids()
"""The process's own maker."""
