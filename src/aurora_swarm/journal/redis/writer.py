"""The one way to a Redis: what many tasks ask is sent in few round trips, and again where the connection was lost.

Everything that waits is taken at once and sent as one pipeline. While its answers are on the way the next one gathers:
the latency of Redis sets the size of a group, never the throughput. A group is repeated whole after a lost connection,
so everything that is asked must be safe to repeat.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from redis.asyncio import ConnectionPool
from redis.exceptions import AuthenticationError, NoPermissionError, NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aurora_swarm.errors import AuroraSwarmError, StorageError, UsageError
from aurora_swarm.journal.redis.scripts import GONE, Script

Argument = bytes | str | int
Command = tuple[Argument, ...]

MAX_COMMANDS, MAX_BYTES = 64, 4_000_000
"""Of one round trip: Redis serves nobody else while it runs one script, and answers to one connection in turn."""

REQUEST_S, CLOSES_WITHIN_S = 20.0, 1.5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


class _Entry:
    """One command, and all who wait for its answer."""

    def __init__(self, encode: Callable[[list[Any]], Command], group: Hashable) -> None:
        self.encode = encode
        self.group = group
        self.parts: list[Any] = []
        self.bytes = 0
        self.futures: list[asyncio.Future[Any]] = []


class Line:
    """Asks one Redis, for all tasks of this process that use one store.

    Args:
        pool: Connections to it.
        place: Its URL without credentials, for errors.
        scripts: What is called by its hash.
        patience_s: Seconds for which a request is tried again while Redis cannot be reached.

    Attributes:
        closed: Whether nothing more is taken.
        joined: How many commands were sent for those that `join`; repetitions are not counted.
    """

    def __init__(self, pool: ConnectionPool, place: str, scripts: Sequence[Script], patience_s: float) -> None:
        self.pool = pool
        self.place = place
        self.closed = False
        self.joined = 0
        self._scripts = scripts
        self._patience_s = patience_s
        self._queue: deque[_Entry] = deque()
        self._open: dict[Hashable, _Entry] = {}
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._work(), name=f"writer to {place}")

    async def ask(self, *command: Argument, weight: int = 0) -> Any:
        """Send a command and wait for its answer.

        Args:
            command: What is sent.
            weight: About how many bytes go there or come back.

        Raises:
            StorageError: Redis could not be reached in time, refused it, or the store is closed.
            UsageError: Redis refuses us.
        """
        entry = self._entry(lambda _parts: command)
        entry.bytes = weight
        return await self._added(entry, None)

    async def call(self, script: Script, key: str, *arguments: Argument, weight: int = 0) -> Any:
        """Run a script and wait for its answer; otherwise like `ask`."""
        return await self.ask("EVALSHA", script.sha, 1, key, *arguments, weight=weight)

    async def join(self, group: Hashable, part: Any, weight: int, encode: Callable[[list[Any]], Command]) -> Any:
        """Have a part written together with all parts of its group that wait; all are given the one answer.

        A part whose task is cancelled is written all the same once it was asked for, or not at all.

        Args:
            group: What may be written together.
            part: What is to be written.
            weight: About how many bytes it has.
            encode: Makes the command of all parts.

        Raises:
            StorageError: As for `ask`.
            UsageError: As for `ask`.
        """
        entry = self._open.get(group)
        if entry is None or entry.bytes + weight > MAX_BYTES:
            entry = self._open[group] = self._entry(encode, group)
        entry.bytes += weight
        return await self._added(entry, part)

    async def aclose(self) -> None:
        """Let be done what was asked, unless Redis cannot be reached or takes long; then end. May be called twice."""
        self.closed = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=CLOSES_WITHIN_S)
        self._task.cancel()
        await asyncio.wait({self._task})

    def _entry(self, encode: Callable[[list[Any]], Command], group: Hashable = None) -> _Entry:
        if self.closed:
            raise self.shut()
        entry = _Entry(encode, group)
        self._queue.append(entry)
        self._wake.set()
        return entry

    async def _added(self, entry: _Entry, part: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        entry.parts.append(part)
        entry.futures.append(future)
        return await future

    async def _work(self) -> None:
        entries: list[_Entry] = []
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while entries := self._taken():
                    await self._serve(entries)
                if self.closed:
                    return
        finally:
            self.closed = True
            _fail([*entries, *self._queue], self.shut())

    def _taken(self) -> list[_Entry]:
        """What is sent next; nobody joins it any more."""
        taken: list[_Entry] = []
        size = 0
        while self._queue and len(taken) < MAX_COMMANDS and size < MAX_BYTES:
            entry = self._queue.popleft()
            if self._open.get(entry.group) is entry:
                del self._open[entry.group]
            if not all(future.cancelled() for future in entry.futures):
                size += entry.bytes
                taken.append(entry)
        return taken

    async def _serve(self, entries: list[_Entry]) -> None:
        self.joined += sum(entry.parts[0] is not None for entry in entries)
        try:
            replies = await self._patiently([entry.encode(entry.parts) for entry in entries])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            # Those who wait in the queue have waited as long.
            known = error if isinstance(error, AuroraSwarmError) else StorageError(repr(error), path=self.place)
            _fail([*entries, *self._queue], known)
            self._queue.clear()
            self._open.clear()
            return
        for entry, reply in zip(entries, replies, strict=True):
            if isinstance(reply, ResponseError):
                _fail([entry], self.refusal(reply))
            else:
                _settle(entry, reply)

    async def _patiently(self, commands: list[Command]) -> list[Any]:
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + self._patience_s, _FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(REQUEST_S):
                    return await self._exchange(commands)
            except NoScriptError as error:
                failure: Exception = error  # it was started anew, and knows no scripts
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                if _refuses(error):
                    raise self.refusal(error) from error
                failure = error
            if loop.time() + pause_s > deadline or self.closed:
                raise self.unreachable(failure) from failure
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the load
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        connection = await connected(self.pool)
        try:
            replies = await _pipelined(connection, commands)
            for reply in replies:
                if isinstance(reply, NoScriptError):
                    await _pipelined(connection, [("SCRIPT", "LOAD", script.text) for script in self._scripts])
                    raise reply
                if isinstance(reply, ReadOnlyError):  # it is a replica until the other one has taken over
                    raise RedisConnectionError(str(reply))
            return replies
        finally:
            await self.pool.release(connection)

    def shut(self) -> StorageError:
        """That the store is closed."""
        return StorageError("closed", path=self.place, remedy="open it again")

    def unreachable(self, error: Exception) -> StorageError:
        """That Redis was waited for in vain."""
        problem = f"could not be reached for {self._patience_s:g} s ({type(error).__name__})"
        return StorageError(problem, path=self.place, remedy="check that the Redis server runs, then run again")

    def refusal(self, error: Exception) -> AuroraSwarmError:
        """What Redis said, with a remedy."""
        said = str(error)
        if _refuses(error) or isinstance(error, NoPermissionError):
            return UsageError(f"{self.place} refuses us: {said}", remedy="put user and password into the URL")
        if said.startswith(GONE):
            remedy = "have Redis keep what it is told: appendonly yes, appendfsync always"
            return StorageError(said.removeprefix(f"{GONE} "), path=self.place, remedy=remedy)
        if said.startswith("OOM") or "maxmemory" in said:
            return StorageError(
                "Redis has no memory left", path=self.place, remedy="raise its maxmemory, then run again"
            )
        return StorageError(said, path=self.place, remedy="see the log of the Redis server")


def _refuses(error: Exception) -> bool:
    """Whether it is about who we are; while it connects, redis-py hides that in the cause."""
    return any(isinstance(each, AuthenticationError) for each in (error, error.__cause__))


async def connected(pool: Any) -> Any:
    """A connection of a pool; `release` gives it back."""
    return await pool.get_connection()


async def _pipelined(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """Answers in the order of the commands; an error that Redis answers with is one of them."""
    await connection.send_packed_command(connection.pack_commands(commands))
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


def _settle(entry: _Entry, reply: Any) -> None:
    for future in entry.futures:
        if not future.done():
            future.set_result(reply)


def _fail(entries: Sequence[_Entry], error: AuroraSwarmError) -> None:
    for entry in entries:
        for future in entry.futures:
            if not future.done():
                future.set_exception(copy.copy(error))
