"""Messages through Redis: a stream per channel, so that they outlive every process that talks.

Readers do not block on streams, which would take a connection each: what is appended is announced on one Pub/Sub
channel per process, as a hint to look. A hint that is lost, for instance while Redis restarts, costs `LOOK_AGAIN_S` at
most.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.swarms.messages.bell import Bell
from aurora_swarm.swarms.messages.in_process import closed, mailbox_full, no_position, no_recall
from aurora_swarm.swarms.messages.log import Entry, Wanted
from aurora_swarm.swarms.messages.message import Message, check_channel, decoded, encoded, is_mailbox

T = TypeVar("T")

LOOK_AGAIN_S = 5.0
_CONNECTIONS = 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_REQUEST_S = 10.0

_APPEND = """
if ARGV[3] == '1' and redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
local number = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[2], '*', 'n', number, 'm', ARGV[1])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return number
"""
# Entries up to an id, the id included: XTRIM keeps those from an id on.
_DROP = """
local left = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)
if #left == 0 then
  return redis.call('XTRIM', KEYS[1], 'MAXLEN', 0)
end
return redis.call('XTRIM', KEYS[1], 'MINID', left[1][1])
"""


class RedisLog:
    """An `aurora_swarm.swarms.messages.log.Log` in Redis 6.2 or newer; made by `open`.

    How much of what was acknowledged survives a crash of Redis itself is up to its ``appendfsync``.

    Args:
        redis: The server.
        place: Its URL without credentials, for errors.
        space: Beginning of the keys, so that several societies can share a server.
        keep: Messages per channel.
        patience_s: Seconds for which a request is tried again while the server cannot be reached.
    """

    def __init__(self, redis: Redis, *, place: str, space: str, keep: int, patience_s: float) -> None:
        self.closed = False
        self._redis = redis
        self._place = place
        self._space = space
        self._keep = keep
        self._patience_s = patience_s
        self._bell = Bell()
        self._append = redis.register_script(_APPEND)
        self._drop = redis.register_script(_DROP)
        self._hints: asyncio.Task[None] | None = None
        # redis-py's own pool that blocks can lose a place when whoever waits for it is cancelled.
        self._places = asyncio.Semaphore(_CONNECTIONS)

    @classmethod
    async def open(cls, url: str, *, space: str, keep: int, patience_s: float) -> RedisLog:
        """Connect to a server.

        Args:
            url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py takes it.
            space: As for the class.
            keep: As for the class.
            patience_s: As for the class.

        Raises:
            UsageError: The URL is none, the server refuses us, or it is too old.
            StorageError: The server could not be reached in time.
        """
        place = _without_credentials(url)
        try:
            pool = ConnectionPool.from_url(
                url,
                max_connections=2 * _CONNECTIONS,
                socket_timeout=_REQUEST_S,
                socket_connect_timeout=_REQUEST_S,
                retry=Retry(NoBackoff(), 0),  # there is one retry loop, ours
                health_check_interval=30,
                protocol=2,  # in which answers have the same shape in every version of the client
            )
        except ValueError as error:
            raise UsageError(f"{place} is no address of a Redis: {error}", remedy="redis://host:6379/0") from error
        log = cls(Redis.from_pool(pool), place=place, space=space, keep=keep, patience_s=patience_s)
        try:
            await log._begin()
        except BaseException:
            await log.aclose()
            raise
        return log

    async def append(self, message: Message) -> None:
        """Add a message to its channel."""
        body, channel = encoded(message), message.channel
        keys = [self._stream(channel), self._counter(channel)]
        values: list[bytes | str | int] = [body, self._keep, int(is_mailbox(channel)), self._wake, channel]
        if not await self._patiently(lambda: self._append(keys=keys, args=values)):
            raise mailbox_full(message.to, self._keep)

    async def read(self, after: Mapping[str, str], *, limit: int = 100, wait_s: float = 0.0) -> Sequence[Entry]:
        """What stands behind positions."""
        for channel in after:
            check_channel(channel)
        places = {channel: _place(position) for channel, position in after.items()}
        streams = {self._stream(channel).encode(): channel for channel in after}
        ids: Any = {stream: places[channel][0] for stream, channel in streams.items()}

        async def look() -> list[Entry]:
            found: Any = await self._patiently(lambda: self._redis.xread(ids, count=limit))
            entries: list[Entry] = []
            for stream, rows in found or ():
                entries += _entries(streams[stream], places[streams[stream]][1], rows)
            return entries[:limit]

        return await self._bell.first(look, after, wait_s=wait_s, look_again_s=LOOK_AGAIN_S)

    async def end(self, channel: str) -> str:
        """The position behind everything that is there now."""
        check_channel(channel)
        latest: Any = await self._patiently(lambda: self._redis.xrevrange(self._stream(channel), count=1))
        return _position(latest[0][0], latest[0][1]) if latest else "0-0/0"

    async def drop(self, channel: str, upto: str) -> None:
        """Forget what stands in a mailbox up to a position."""
        check_channel(channel)
        last = _place(upto)[0]
        await self._patiently(lambda: self._drop(keys=[self._stream(channel)], args=[last]))

    async def recall(self, query: str, k: int, wanted: Wanted) -> Sequence[Message]:  # noqa: ARG002
        """Not here."""
        raise no_recall(self._place)

    async def aclose(self) -> None:
        """Wake whoever waits, and end the connections. May be called twice."""
        self.closed = True
        self._bell.ring_all()
        while self._hints is not None and not self._hints.done():
            self._hints.cancel()
            await asyncio.wait({self._hints}, timeout=1.0)
        await self._redis.aclose()

    @property
    def _wake(self) -> str:
        return f"{self._space}:wake"

    def _stream(self, channel: str) -> str:
        return f"{self._space}:{channel}"

    def _counter(self, channel: str) -> str:
        return f"{self._space}:count:{channel}"

    async def _begin(self) -> None:
        info = await self._patiently(lambda: self._redis.info("server"))
        version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if version < (6, 2):
            raise UsageError(f"{self._place} is Redis {info['redis_version']}", remedy="use Redis 6.2 or newer")
        heard = asyncio.get_running_loop().create_future()
        self._hints = asyncio.create_task(self._hear(heard))
        await asyncio.wait({heard, self._hints}, timeout=_REQUEST_S, return_when=asyncio.FIRST_COMPLETED)

    async def _hear(self, heard: asyncio.Future[None]) -> None:
        """Take hints until the log is closed, also from a server that comes back."""
        pause_s = _FIRST_PAUSE_S
        while not self.closed:
            try:
                async with self._redis.pubsub() as hints:
                    await hints.subscribe(self._wake)
                    pause_s = _FIRST_PAUSE_S
                    self._bell.ring_all()  # whatever was said while nobody listened
                    await self._take(hints, heard)
            except (RedisError, OSError):
                self._bell.ring_all()  # whoever waits finds out too
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the load
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _take(self, hints: Any, heard: asyncio.Future[None]) -> None:
        while not self.closed:
            hint = await hints.get_message(timeout=LOOK_AGAIN_S)
            if hint is None:
                await hints.ping()  # a connection that is half gone says nothing: this finds out
            elif hint["type"] == "message":
                self._bell.ring(hint["data"].decode())
            elif not heard.done():
                heard.set_result(None)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the server answers, asked again while it cannot be reached."""
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + self._patience_s, _FIRST_PAUSE_S
        while True:
            if self.closed:
                raise closed()
            try:
                async with self._places, asyncio.timeout(2 * _REQUEST_S):
                    return await ask()
            except (RedisConnectionError, RedisTimeoutError, OSError) as error:
                # While it connects, redis-py hides in the cause that it is about who we are.
                if any(isinstance(each, AuthenticationError) for each in (error, error.__cause__)):
                    remedy = "put the password into the URL"
                    raise UsageError(f"{self._place} refuses us: {error}", remedy=remedy) from error
                if loop.time() + pause_s > deadline:
                    raise self._unreachable(error) from error
            except ResponseError as error:
                raise StorageError(str(error), path=self._place, remedy="see the log of the server") from error
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads the load
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _unreachable(self, error: Exception) -> StorageError:
        problem = f"could not be reached for {self._patience_s:g} s ({type(error).__name__})"
        return StorageError(problem, path=self._place, remedy="check that the Redis server runs")


def _entries(channel: str, number: int | None, rows: Sequence[Any]) -> list[Entry]:
    entries = []
    for id_, fields in rows:
        try:
            message = decoded(fields[b"m"])
        except (KeyError, msgspec.DecodeError):
            continue  # somebody else's
        this = int(fields[b"n"])
        missed = 0 if number is None or is_mailbox(channel) else max(this - number - 1, 0)
        number = this
        entries.append(Entry(channel=channel, position=_position(id_, fields), message=message, missed=missed))
    return entries


def _position(id_: bytes, fields: Mapping[bytes, bytes]) -> str:
    return f"{id_.decode()}/{int(fields.get(b'n', 0))}"


def _place(position: str) -> tuple[str, int | None]:
    """The stream's id, and the number of the message that stands there; None at the start."""
    if not position:
        return "0-0", None
    id_, _, number = position.partition("/")
    if not number.isdecimal() or not all(part.isdecimal() for part in id_.split("-")):
        raise no_position(position)
    return id_, int(number)


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
