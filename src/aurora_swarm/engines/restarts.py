"""How long to wait before something that died is begun again. Pure."""

from __future__ import annotations

FIRST_S = 0.1
LONGEST_S = 10.0
AT_ONCE_S = 3.0
"""Whatever lived longer was at work: its death says nothing about the next one's."""


def pause_s(lived_s: float, before_s: float) -> float:
    """Seconds to wait.

    Args:
        lived_s: How long it lived.
        before_s: What was waited before it was begun; 0 for the first time.
    """
    if lived_s >= AT_ONCE_S or not before_s:
        return FIRST_S
    return min(2 * before_s, LONGEST_S)
