"""What the exit code says."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes, the same for every command."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    ALL_FAILED = 3
    INTERRUPTED = 130


def exit_of(ok: int, failed: int) -> Exit:
    """The exit code for so many successes and failures; nothing at all is a success."""
    if not failed:
        return Exit.OK
    return Exit.SOME_FAILED if ok else Exit.ALL_FAILED
