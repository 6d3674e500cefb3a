"""Reading the answer to a GET from a connection, bounded in everything that a server could make long."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Mapping

import msgspec

from aurora_swarm.errors import ToolFailedError

MAX_HEAD_BYTES = 65_536

Take = Callable[[bytes], bool]
"""Takes a piece of a body; returns whether more is wanted."""

_PIECE = 65_536
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9]{2})(?: .*)?")
_WITHOUT_BODY = frozenset({204, 304})
_DEFLATED = frozenset({"gzip", "x-gzip", "deflate"})


class Page(msgspec.Struct, frozen=True):
    """What a server answered.

    Args:
        status: HTTP status.
        headers: Names in lower case.
        body: Decompressed; not more than was wanted.
        is_cut: Whether there was more.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool = False


async def read_page(reader: asyncio.StreamReader, max_bytes: int) -> Page:
    """Read one answer.

    Args:
        reader: Of a connection that is used for nothing else.
        max_bytes: Bytes of the decompressed body that are read.

    Raises:
        ToolFailedError: It is no HTTP answer, or in an encoding that was not asked for.
        EOFError: The connection ended before the answer did.
        asyncio.LimitOverrunError: A head, or a line, that is too long.
    """
    status = 100
    headers: Mapping[str, str] = {}
    for _ in range(5):
        status, headers = _read_head(await reader.readuntil(b"\r\n\r\n"))
        if status >= 200:
            break
    else:
        raise ToolFailedError("the answer is not HTTP")
    if status in _WITHOUT_BODY:
        return Page(status, headers, b"")
    body = _Body(headers, max_bytes)
    await _read_body(reader, headers, body.take)
    return body.page(status, headers)


def _read_head(head: bytes) -> tuple[int, Mapping[str, str]]:
    first, *lines = head[:-4].split(b"\r\n")
    found = _STATUS.fullmatch(first)
    if not found:
        raise ToolFailedError("the answer is not HTTP")
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").strip().lower()] = value.decode("latin-1").strip()
    return int(found[1]), headers


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str], take: Take) -> None:
    """Read the body piece by piece, in whichever way its end is told, for as long as more is wanted."""
    length = headers.get("content-length")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while size := _number(await reader.readuntil(b"\r\n"), rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n", 16):
            if not await _read_exactly(reader, size, take):
                return
            await reader.readexactly(2)
    elif length is not None:
        await _read_exactly(reader, _number(length.encode("latin-1"), rb"([0-9]{1,18})", 10), take)
    else:
        while (piece := await reader.read(_PIECE)) and take(piece):
            pass


async def _read_exactly(reader: asyncio.StreamReader, size: int, take: Take) -> bool:
    while size:
        piece = await reader.read(min(size, _PIECE))
        if not piece:
            raise EOFError("the body ended early")
        size -= len(piece)
        if not take(piece):
            return False
    return True


def _number(text: bytes, pattern: bytes, base: int) -> int:
    found = re.fullmatch(pattern, text)
    if not found:
        raise ToolFailedError("the answer is not HTTP")
    return int(found[1], base)


class _Body:
    """A body as it is read; of one that was compressed, nothing beyond what is wanted is ever inflated."""

    def __init__(self, headers: Mapping[str, str], max_bytes: int) -> None:
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in _DEFLATED and encoding != "identity":
            raise ToolFailedError(f"the answer is in an encoding that is not read ({encoding[:40]})")
        # Takes the frames of gzip and of zlib alike.
        self._inflate = zlib.decompressobj(wbits=47) if encoding in _DEFLATED else None
        self._wanted = max_bytes + 1
        self.data = bytearray()

    def take(self, piece: bytes) -> bool:
        """Add a piece; returns whether more is wanted."""
        room = self._wanted - len(self.data)
        try:
            self.data += piece[:room] if self._inflate is None else self._inflate.decompress(piece, room)
        except zlib.error:
            raise ToolFailedError("the answer is damaged: it cannot be decompressed") from None
        return len(self.data) < self._wanted

    def page(self, status: int, headers: Mapping[str, str]) -> Page:
        """What was taken, as a page."""
        is_cut = len(self.data) == self._wanted
        if self._inflate is not None and self.data and not self._inflate.eof and not is_cut:
            raise ToolFailedError("the answer is damaged: it ends within what was compressed")
        return Page(status, headers, bytes(self.data[: self._wanted - 1]), is_cut)
