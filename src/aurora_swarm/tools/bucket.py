"""How often a tool may be called: a token bucket. Pure: told the time."""

from __future__ import annotations


class TokenBucket:
    """Allows `rate` calls per second, and a burst of one second's worth.

    Args:
        rate: Calls per second.
        now: The time, in seconds on any clock that does not jump.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._room = max(rate, 1.0)
        self._tokens = self._room
        self._at = now

    def take(self, now: float) -> float:
        """Take the next token, even one that is not there yet.

        Returns:
            Seconds to wait before it may be used.
        """
        self._tokens = min(self._room, self._tokens + (now - self._at) * self._rate) - 1.0
        self._at = now
        return max(0.0, -self._tokens / self._rate)
