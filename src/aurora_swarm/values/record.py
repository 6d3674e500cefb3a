"""What a journal keeps."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True):
    """One finished piece of work.

    Args:
        key: Content key: hash of all that determines the answer. The first write of a key wins.
        payload: The result, encoded by the one who writes it; opaque to the journal.
    """

    key: str
    payload: bytes
