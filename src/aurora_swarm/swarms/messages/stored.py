"""Messages in a vector store, where they are found by meaning as well: the layer that every store can be.

A store has neither order nor transactions over several documents. So each opened log is a *writer* with numbers of its
own: number 7 of writer W on channel C is one document, and one further document says which numbers of W are there.
A position is the number that was read of each writer. Writers never touch each other's documents.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Mapping, Sequence

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.ports.store import Collection, Document, Scalar, VectorStore
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.messages.bell import Bell
from aurora_swarm.swarms.messages.in_process import closed, mailbox_full, no_position
from aurora_swarm.swarms.messages.log import Entry, Wanted
from aurora_swarm.swarms.messages.message import Message, check_channel, decoded, encoded, is_mailbox

_MOST_WRITERS = 1_000
_LOOK_AGAIN_S = 0.25
_FIELDS = {"channel": "str", "sender": "str", "thread": "str", "round": "int", "body": "str"}
_WRITER_FIELDS = {"channel": "str", "writer": "str", "first": "int", "last": "int"}

Numbers = dict[str, int]


class _Writer(msgspec.Struct, frozen=True):
    """Which numbers of a writer are on a channel."""

    name: str
    first: int
    last: int


class _Found(msgspec.Struct, frozen=True):
    """A message with its number, and how many before it are no longer there."""

    writer: str
    number: int
    message: Message
    missed: int


class StoredLog:
    """An `aurora_swarm.swarms.messages.log.Log` in a vector store; made by `open`.

    A message is embedded by its text, or by its data where it has none.

    Args:
        store: The store, which this log closes.
        messages: Its messages.
        writers: Who has written what.
        keep: Messages per channel and writer.
        shared: Whether other processes may write, so that readers must look every 0.25 s.
    """

    def __init__(
        self, store: VectorStore, messages: Collection, writers: Collection, *, keep: int, shared: bool
    ) -> None:
        self.closed = False
        self._store = store
        self._messages = messages
        self._writers = writers
        self._keep = keep
        self._look_again_s = _LOOK_AGAIN_S if shared else float("inf")
        self._bell = Bell()
        self._me = new_id()
        self._mine: dict[str, _Writer] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    @classmethod
    async def open(cls, store: VectorStore, *, space: str, keep: int, shared: bool) -> StoredLog:
        """Use two collections of a store.

        Args:
            store: The store.
            space: Beginning of the names of the collections.
            keep: As for the class.
            shared: As for the class.

        Raises:
            StoreError: A collection of that name is used for something else.
        """
        messages = await store.collection(f"{space}.messages", fields=_FIELDS)
        writers = await store.collection(f"{space}.writers", fields=_WRITER_FIELDS)
        return cls(store, messages, writers, keep=keep, shared=shared)

    async def append(self, message: Message) -> None:
        """Add a message to its channel."""
        self._refuse_closed()
        body, channel = encoded(message).decode(), message.channel
        async with self._turns.setdefault(channel, asyncio.Lock()):
            mine = self._mine.get(channel, _Writer(self._me, 1, 0))
            number = mine.last + 1
            if is_mailbox(channel):
                acknowledged = await self._acknowledged(channel)
                first = max(mine.first, acknowledged.get(self._me, 0) + 1)
                if number - first >= self._keep:
                    raise mailbox_full(message.to, self._keep)
            else:
                first = max(mine.first, number - self._keep + 1)
            # The message goes first: until its number is told, nobody sees it, and a second try replaces it.
            await self._messages.upsert([_document(_id(channel, self._me, number), message, channel, body)])
            await self._tell(channel, _Writer(self._me, first, number))
            if gone := [_id(channel, self._me, n) for n in range(mine.first, first)]:
                await self._messages.delete(gone)
        self._bell.ring(channel)

    async def read(self, after: Mapping[str, str], *, limit: int = 100, wait_s: float = 0.0) -> Sequence[Entry]:
        """What stands behind positions."""
        for channel in after:
            check_channel(channel)
        numbers = {channel: _numbers(position) for channel, position in after.items()}

        async def look() -> list[Entry]:
            self._refuse_closed()
            found: list[Entry] = []
            for channel, read in numbers.items():
                if len(found) < limit:
                    found += await self._behind(channel, read, limit - len(found))
            return found

        return await self._bell.first(look, after, wait_s=wait_s, look_again_s=self._look_again_s)

    async def end(self, channel: str) -> str:
        """The position behind everything that is there now."""
        check_channel(channel)
        self._refuse_closed()
        return _position({writer.name: writer.last for writer in await self._on(channel)})

    async def drop(self, channel: str, upto: str) -> None:
        """Forget what stands in a mailbox up to a position."""
        check_channel(channel)
        self._refuse_closed()
        read, before = _numbers(upto) or {}, await self._acknowledged(channel)
        now = {name: max(read.get(name, 0), before.get(name, 0)) for name in {*read, *before}}
        position = _position(now)
        await self._writers.upsert(
            [
                Document(
                    _receiver_id(channel),
                    f"read {channel}",
                    {"channel": f"read:{channel}", "writer": position, "first": 0, "last": 0},
                )
            ]
        )
        gone = [_id(channel, name, n) for name, last in now.items() for n in range(before.get(name, 0) + 1, last + 1)]
        if gone:
            await self._messages.delete(gone)

    async def recall(self, query: str, k: int, wanted: Wanted) -> Sequence[Message]:
        """The messages nearest in meaning to a text, nearest first."""
        self._refuse_closed()
        if k < 1:
            raise UsageError(f"{k} messages cannot be recalled", remedy="ask for at least one")
        where: dict[str, Scalar] = {
            name: value for name, value in msgspec.structs.asdict(wanted).items() if value is not None
        }
        found = await self._messages.query(query, k, where=where or None)
        return [decoded(str(match.document.metadata["body"])) for match in found]

    async def aclose(self) -> None:
        """Wake whoever waits, and close the store. May be called twice."""
        self.closed = True
        self._bell.ring_all()
        await self._store.aclose()

    async def _tell(self, channel: str, writer: _Writer) -> None:
        """Say which numbers are there."""
        metadata: dict[str, Scalar] = {
            "channel": channel,
            "writer": writer.name,
            "first": writer.first,
            "last": writer.last,
        }
        await self._writers.upsert([Document(_id(channel, writer.name, 0), f"{channel} {writer.name}", metadata)])
        self._mine[channel] = writer

    async def _on(self, channel: str) -> list[_Writer]:
        found = await self._writers.query(channel, _MOST_WRITERS, where={"channel": channel})
        described = (match.document.metadata for match in found)
        return [_Writer(str(each["writer"]), int(each["first"]), int(each["last"])) for each in described]

    async def _acknowledged(self, channel: str) -> Numbers:
        found = await self._writers.get([_receiver_id(channel)])
        return (_numbers(str(found[0].metadata["writer"])) or {}) if found else {}

    async def _behind(self, channel: str, read: Numbers | None, limit: int) -> list[Entry]:
        """Entries of all writers, each one's in its order, the older ids first."""
        start = dict(await self._acknowledged(channel)) if is_mailbox(channel) else {}
        for name, number in (read or {}).items():
            start[name] = max(number, start.get(name, 0))
        counted = read is not None and not is_mailbox(channel)
        of_writers = [
            await self._of(channel, writer, start.get(writer.name, 0), limit, counted=counted)
            for writer in await self._on(channel)
            if writer.last > start.get(writer.name, 0)
        ]
        entries: list[Entry] = []
        at = dict(read or {})
        for found in heapq.merge(*of_writers, key=lambda each: each.message.id):
            if len(entries) == limit:
                break
            at[found.writer] = found.number
            entries.append(Entry(channel=channel, position=_position(at), message=found.message, missed=found.missed))
        return entries

    async def _of(self, channel: str, writer: _Writer, read: int, limit: int, *, counted: bool) -> list[_Found]:
        """What a writer has on a channel behind a number."""
        first = max(read + 1, writer.first)
        numbers = range(first, min(first + limit, writer.last + 1))
        documents = await self._messages.get([_id(channel, writer.name, n) for n in numbers])
        by_id = {document.id: document for document in documents}
        found, before = [], read
        for n in numbers:
            if (document := by_id.get(_id(channel, writer.name, n))) is not None:  # else trimmed at this moment
                message = decoded(str(document.metadata["body"]))
                found.append(_Found(writer.name, n, message, n - before - 1 if counted else 0))
                before = n
        return found

    def _refuse_closed(self) -> None:
        if self.closed:
            raise closed()


def _document(id_: str, message: Message, channel: str, body: str) -> Document:
    text = message.text or (msgspec.json.encode(message.data).decode() if message.data else channel)
    metadata: dict[str, Scalar] = {
        "channel": channel,
        "sender": message.sender,
        "thread": message.thread,
        "round": message.round,
        "body": body,
    }
    return Document(id_, text, metadata)


def _id(channel: str, writer: str, number: int) -> str:
    """Of a message; with 0 of what says which there are."""
    return f"{channel}/{writer}/{number}"


def _receiver_id(channel: str) -> str:
    """Of what says how much of a mailbox was acknowledged."""
    return f"{channel}/read"


def _position(numbers: Numbers) -> str:
    return msgspec.json.encode(numbers, order="sorted").decode()


def _numbers(position: str) -> Numbers | None:
    if not position:
        return None
    try:
        return msgspec.json.decode(position, type=Numbers)
    except msgspec.DecodeError:
        raise no_position(position) from None
