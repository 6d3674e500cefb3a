"""What is said over HTTP between a client and a server of messages: JSON in the bodies of POST requests."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aurora_swarm.swarms.messages.log import MOST_ENTRIES, Entry, Wanted
from aurora_swarm.swarms.messages.message import Message

LONGEST_WAIT_S = 20.0
"""Of one request; a reader that waits longer asks again."""


class Append(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``/append``."""

    message: Message


class Read(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``/read``: a long poll, answered as soon as there is a message."""

    after: Annotated[dict[str, str], msgspec.Meta(max_length=1_000)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_ENTRIES)] = 100
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WAIT_S)] = 0.0


class End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``/end``."""

    channel: str


class Drop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``/drop``."""

    channel: str
    upto: str


class Recall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``/recall``."""

    query: str
    k: Annotated[int, msgspec.Meta(ge=1, le=MOST_ENTRIES)]
    wanted: Wanted


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of every answer.

    Args:
        entries: Of ``/read``.
        position: Of ``/end``.
        messages: Of ``/recall``.
        error: What is wrong, with any status but 200.
        remedy: What to do about it.
    """

    entries: tuple[Entry, ...] = ()
    position: str = ""
    messages: tuple[Message, ...] = ()
    error: str = ""
    remedy: str = ""
