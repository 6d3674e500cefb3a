"""As much of HTTP/1.1 as a simulated server needs: whole requests from bytes, heads of answers. Pure."""

from __future__ import annotations

from typing import NamedTuple

MOST_HEAD = 64 * 1024
MOST_BODY = 64 * 1024 * 1024

JSON = b"application/json"
HTML = b"text/html"
TEXT = b"text/plain; version=0.0.4"
EVENTS = b"text/event-stream"

_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 429: b"Too Many Requests", 502: b"Bad Gateway"}
_OK_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Request(NamedTuple):
    """What a client sent.

    Args:
        method: ``GET``, ``POST`` ...
        path: Without the query.
        body: All of it.
        keep_alive: Whether the connection stays open after the answer.
        size: Bytes that it took.
    """

    method: bytes
    path: bytes
    body: bytes
    keep_alive: bool
    size: int


class MalformedError(Exception):
    """The bytes are no request that can be read.

    Args:
        status: What to answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def take(received: bytearray) -> Request | None:
    """The first whole request.

    Args:
        received: What has come so far; left as it is.

    Returns:
        The request; None when more has to come.

    Raises:
        MalformedError: No more has to come: this is not a request that is read here.
    """
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > MOST_HEAD:
            raise MalformedError(431)
        return None
    head = bytes(received[:end])
    fields = head.lower()
    length = _length(fields)
    size = end + 4 + length
    if len(received) < size:
        return None
    line = head.partition(b"\r\n")[0].split(b" ")
    if len(line) != 3 or not line[2].startswith(b"HTTP/1."):
        raise MalformedError(400)
    keep = b"\r\nconnection: close" not in fields and line[2] != b"HTTP/1.0"
    return Request(line[0], line[1].partition(b"?")[0], bytes(received[end + 4 : size]), keep, size)


def expects_continue(received: bytearray) -> bool:
    """Whether a client has sent a head only, and waits for leave to send its body."""
    return received.endswith(b"\r\n\r\n") and b"\r\nexpect: 100-continue\r\n" in bytes(received).lower()


def _length(fields: bytes) -> int:
    if b"\r\ntransfer-encoding:" in fields:
        raise MalformedError(411)
    at = fields.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    text = fields[at + 17 :].partition(b"\r\n")[0].strip()
    if not text.isdigit():
        raise MalformedError(400)
    if int(text) > MOST_BODY:
        raise MalformedError(413)
    return int(text)


def answer(body: bytes, status: int = 200, kind: bytes = JSON, more: bytes = b"") -> bytes:
    """A whole answer.

    Args:
        body: Its body.
        status: HTTP status.
        kind: Content type.
        more: Further header lines, each ended by CRLF.
    """
    if status == 200 and kind is JSON and not more:
        return _OK_JSON % len(body) + body
    return head(status, kind, b"content-length: %d\r\n" % len(body) + more) + body


def head(status: int, kind: bytes, more: bytes = b"") -> bytes:
    """The head of an answer.

    Args:
        status: HTTP status.
        kind: Content type.
        more: Further header lines, each ended by CRLF; those that tell of the body's end among them.
    """
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n%b\r\n" % (status, _REASONS.get(status, b"Status"), kind, more)


def chunk(data: bytes) -> bytes:
    """A piece of a body that comes in chunks; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)
