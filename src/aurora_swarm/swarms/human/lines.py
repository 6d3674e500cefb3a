"""Lines of a terminal or a pipe, read on the event loop: nothing blocks, and waiting can be cancelled."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import termios
from collections import deque

from aurora_swarm.errors import UsageError

_PIECE = 4096
_MOST = 65_536
"""Bytes of one line; a longer one is cut into several."""


class Lines:
    """Reads a file descriptor, which stays open and as it is.

    Args:
        descriptor: Of a terminal, a pipe, a socket or a file.

    Attributes:
        is_terminal: Whether a person types there.
    """

    def __init__(self, descriptor: int) -> None:
        self.is_terminal = os.isatty(descriptor)
        self._descriptor = descriptor
        self._whole: deque[str] = deque()
        self._rest = b""
        self._ended = False

    async def next(self) -> str | None:
        """The next line without its end; None when there are no more. Cancelling loses nothing."""
        while not self._whole and not self._ended:
            await self._readable()
            self._read()
        return self._whole.popleft() if self._whole else None

    def drop_typed(self) -> list[str]:
        """Lines that were typed at a terminal before they were wanted; a begun one is dropped. None of a pipe's."""
        if not self.is_terminal:
            return []
        while not self._ended and select.select([self._descriptor], [], [], 0)[0]:
            self._read()
        termios.tcflush(self._descriptor, termios.TCIFLUSH)
        dropped = list(self._whole)
        self._whole.clear()
        self._rest = b""
        return dropped

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        try:
            loop.add_reader(self._descriptor, _wake, ready)
        except OSError:  # files are not to be waited for
            return
        try:
            await ready
        finally:
            loop.remove_reader(self._descriptor)

    def _read(self) -> None:
        try:
            piece = os.read(self._descriptor, _PIECE)
        except OSError:  # a terminal that was hung up
            piece = b""
        self._ended = not piece
        *whole, self._rest = (self._rest + piece).split(b"\n")
        if self._rest and (self._ended or len(self._rest) > _MOST):
            whole.append(self._rest)
            self._rest = b""
        self._whole.extend(line.decode("utf-8", "replace").removesuffix("\r") for line in whole)


def standard_input() -> int:
    """Descriptor of standard input.

    Raises:
        UsageError: There is none.
    """
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        raise UsageError("there is no standard input", remedy="ask through a web form or a function instead") from None


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
