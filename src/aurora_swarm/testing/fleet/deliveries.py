"""How an answer's bytes reach the client where something is wrong with it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Client(Protocol):
    """The connection."""

    def send(self, data: bytes) -> None:
        """Bytes to the socket."""
        ...

    def close(self) -> None:
        """End the connection after what was sent."""
        ...


class Cut:
    """The connection ends after so many bytes, head included.

    Args:
        client: The connection.
        bytes_: How many bytes; 0 for none at all.
    """

    def __init__(self, client: Client, bytes_: int) -> None:
        self._client = client
        self._left = bytes_

    def write(self, data: bytes) -> None:
        """As much of it as there may be."""
        piece, self._left = data[: self._left], max(self._left - len(data), 0)
        if piece:
            self._client.send(piece)
        if not self._left:
            self._client.close()

    def lets_go(self) -> bool:
        """Where the answer was shorter."""
        return self._left > 0

    def cancel(self) -> None:
        """There is nothing to stop."""


class Drip:
    """One byte at a time.

    Args:
        client: The connection.
        pause_s: Seconds between two bytes.
    """

    def __init__(self, client: Client, pause_s: float) -> None:
        self._client = client
        self._pause_s = pause_s
        self._waiting = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Put it behind what waits."""
        self._waiting += data
        if self._timer is None:
            self._drop()

    def lets_go(self) -> bool:
        """Never."""
        return False

    def cancel(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _drop(self) -> None:
        self._timer = None
        if self._waiting:
            self._client.send(bytes(self._waiting[:1]))
            del self._waiting[:1]
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._drop)
