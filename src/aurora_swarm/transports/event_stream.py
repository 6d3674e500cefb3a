"""Amazon's binary event stream from bytes in pieces of any size.

A message is: its length and that of its headers (4 bytes each, big-endian), a checksum of these eight, the headers,
the payload, a checksum of all before it. A header is the length of its name (1 byte), the name, a type (1 byte) and a
value.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from aurora_swarm.errors import BadResponseError

_PRELUDE, _CHECKSUM = 12, 4
_MOST = 24 << 20
"""Bytes that a message has at most; what claims more is no message."""

_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Type of a header's value -> its bytes; types 6 and 7, bytes and text, begin with their length."""

_SIZED = (6, 7)
_TEXT = 7


class EventMessage(NamedTuple):
    """One message.

    Args:
        headers: Those whose value is a text.
        payload: The rest.
    """

    headers: dict[str, str]
    payload: bytes


class EventStreamParser:
    """Feeds on bytes, gives each finished message."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[EventMessage]:
        """The messages that end in `chunk`, in order.

        Raises:
            BadResponseError: The bytes are no message, or a checksum is wrong.
        """
        data, at = self._rest + chunk, 0
        messages: list[EventMessage] = []
        while len(data) - at >= _PRELUDE:
            end = at + _length(data[at : at + _PRELUDE])
            if end > len(data):
                break
            messages.append(_message(data[at:end]))
            at = end
        self._rest = data[at:]
        return messages


def _length(prelude: bytes) -> int:
    _check(prelude[:8], prelude[8:])
    length, headers = _number(prelude[:4]), _number(prelude[4:8])
    if not _PRELUDE + _CHECKSUM + headers <= length <= _MOST:
        raise BadResponseError(f"a message of the event stream claims {length} bytes, {headers} of them headers")
    return length


def _message(data: bytes) -> EventMessage:
    _check(data[:-_CHECKSUM], data[-_CHECKSUM:])
    end = _PRELUDE + _number(data[4:8])
    return EventMessage(_headers(data[_PRELUDE:end]), data[end:-_CHECKSUM])


def _headers(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name, kind = data[at + 1 : name_end].decode(), data[name_end]
            at = name_end + 1
            size = _number(data[at : at + 2]) if kind in _SIZED else _FIXED[kind]
            at += 2 if kind in _SIZED else 0
            if kind == _TEXT:
                headers[name] = data[at : at + size].decode()
            at += size
    except (IndexError, KeyError, UnicodeDecodeError):
        at = -1
    if at != len(data):
        raise BadResponseError("a message of the event stream has headers that cannot be read")
    return headers


def _check(data: bytes, checksum: bytes) -> None:
    if zlib.crc32(data) != _number(checksum):
        raise BadResponseError("a message of the event stream does not fit its checksum")


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")
