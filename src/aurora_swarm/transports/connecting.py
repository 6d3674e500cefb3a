"""What clients have in common: places for connections, and the words for why there is none."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections import deque
from urllib.parse import urlsplit

from aurora_swarm.errors import AttemptTimeoutError, CallError, ConnectError, UsageError

IDLE_TIMEOUT_S = 4
"""Idle connections are dropped before uvicorn drops them (5 s): a request on a connection that the server is just
closing would be lost."""


class Places:
    """How many connections may be in use at a time, over all hosts.

    Args:
        most: Connections in use at most. None, or more than the process may open files (``ulimit -n``), means as many
            as fit.

    Attributes:
        most: As it was fitted.
        most_idle: Idle connections at most.
        free: Places that nobody has. Who finds one takes it by counting down, and gives it back with `release`.

    Raises:
        UsageError: The number is not positive.
    """

    def __init__(self, most: int | None = None) -> None:
        if most is not None and most < 1:
            raise UsageError("max_connections must be above 0")
        self.most, self.most_idle = _fitting(most)
        self.free = self.most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._starved: deque[asyncio.Future[None]] = deque()

    async def acquire(self, url: str, timeout_s: float) -> float:
        """Take a place; returns the seconds that are left.

        Raises:
            AttemptTimeoutError: None became free in time.
        """
        if self.free:
            self.free -= 1
            return timeout_s
        loop = asyncio.get_running_loop()
        started = loop.time()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            if turn.done() and not turn.cancelled():  # the place was given in the meantime
                self.release()
            if isinstance(error, asyncio.CancelledError):
                raise
            problem = f"none of {self.most} connections became free within {timeout_s:.3g} s"
            raise AttemptTimeoutError(problem, endpoint=base_of(url), remedy="allow more connections") from None
        return max(timeout_s - (loop.time() - started), 0.0)

    def release(self) -> None:
        """Hand a place to whoever waits longest."""
        while self._starved:
            ended = self._starved.popleft()
            if not ended.done():
                ended.set_result(None)
                break
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1

    async def until_one_ends(self, pause_s: float) -> None:
        """Wait until a connection is not in use any more, at most for a pause; its place is not taken."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._starved.append(ended)
        try:
            async with asyncio.timeout(pause_s):
                await ended
        except TimeoutError:
            return


class Turns:
    """Lets only so many begin in one turn of the event loop, in the order in which they came.

    Thousands of connections begun in one turn keep the first request from being sent until the last one is begun.

    Args:
        most: How many.
        loop: The running one.
    """

    def __init__(self, most: int, loop: asyncio.AbstractEventLoop) -> None:
        self._most = most
        self._left = most
        self._loop = loop
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_due = False

    async def mine(self) -> None:
        """Wait until it is one's turn."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._next)
        if self._left:
            self._left -= 1
            return
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next(self) -> None:
        self._left = self._most
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._is_due = self._left < self._most
        if self._is_due:
            self._loop.call_soon(self._next)


class Attempt:
    """An attempt to connect, which ends in time as in `asyncio.timeout`, but without a timer of its own.

    Args:
        loop: The running one.

    Attributes:
        deadline: Until when it may last, on the loop's clock.
    """

    __slots__ = ("_before", "_is_late", "_task", "deadline")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self.deadline = 0.0
        self._task = task
        self._before = task.cancelling()
        self._is_late = False

    def expire(self) -> None:
        """Its time is over: its task is woken by a cancellation."""
        self._is_late = self._task.cancel()

    def is_ours(self) -> bool:
        """Whether the task was cancelled because of the time, and by nobody else; that is taken back."""
        return self._is_late and self._task.uncancel() <= self._before


def base_of(url: str) -> str:
    """Scheme, host and port: no path, no credentials."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def closed_client(base: str) -> ConnectError:
    """The client was closed."""
    return ConnectError("this client is closed", endpoint=base, remedy="open a new pool")


def no_files(base: str) -> ConnectError:
    """The process, or the system, may open no further file."""
    remedy = "raise the limit (ulimit -n), or allow fewer connections"
    return ConnectError("this process has too many open files", endpoint=base, remedy=remedy)


def not_in_time(base: str) -> ConnectError:
    """Nobody took the connection."""
    return ConnectError("no connection in time", endpoint=base)


def unknown_host(base: str) -> ConnectError:
    """The name leads nowhere."""
    return ConnectError("the host name is unknown", endpoint=base, remedy="check the host's name")


def refused(base: str) -> ConnectError:
    """Nobody listens there."""
    return ConnectError("connection refused", endpoint=base, remedy="check that the server runs there")


def connect_error(error: OSError, base: str) -> CallError:
    """What the system said of a connection that did not come about."""
    text = str(error)
    if isinstance(error, socket.gaierror):
        return unknown_host(base)
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in text:
        return refused(base)
    return ConnectError(error.strerror or text[:200] or "no connection", endpoint=base)


def no_whole_answer(base: str, timeout_s: float) -> AttemptTimeoutError:
    """The time of the request is over."""
    return AttemptTimeoutError(f"no whole answer within {timeout_s:.3g} s", endpoint=base)


def _fitting(wanted: int | None) -> tuple[int, int]:
    """Connections in use and idle ones that fit into the files this process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    free = max(soft - min(64, soft // 2), 2)
    busy = min(wanted or free, max(free * 3 // 4, 1))
    return busy, min(busy, free - busy)
