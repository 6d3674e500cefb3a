"""Messages within one process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.swarms.messages.bell import Bell
from aurora_swarm.swarms.messages.log import Entry, Wanted
from aurora_swarm.swarms.messages.message import Message, check_channel, decoded, encoded, is_mailbox


class _Channel:
    """Messages by consecutive numbers, the first of them 1."""

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self.last = 0

    @property
    def dropped(self) -> int:
        """The number of the last one that is no longer kept."""
        return self.last - len(self.bodies)

    def add(self, body: bytes) -> None:
        self.last += 1
        self.bodies[self.last] = body

    def forget(self) -> None:
        """Forget the oldest."""
        del self.bodies[self.dropped + 1]


class InProcessLog:
    """An `aurora_swarm.swarms.messages.log.Log` in memory; what it holds ends with it.

    Args:
        keep: Messages per channel.
    """

    def __init__(self, *, keep: int) -> None:
        self.closed = False
        self._keep = keep
        self._channels: dict[str, _Channel] = {}
        self._bell = Bell()

    async def append(self, message: Message) -> None:
        """Add a message to its channel."""
        self._refuse_closed()
        body, name = encoded(message), message.channel
        channel = self._channels.setdefault(name, _Channel())
        if len(channel.bodies) >= self._keep:
            if is_mailbox(name):
                raise mailbox_full(message.to, self._keep)
            channel.forget()
        channel.add(body)
        self._bell.ring(name)

    async def read(self, after: Mapping[str, str], *, limit: int = 100, wait_s: float = 0.0) -> Sequence[Entry]:
        """What stands behind positions."""
        for channel in after:
            check_channel(channel)
        positions = {channel: _number(position) for channel, position in after.items()}

        async def look() -> list[Entry]:
            self._refuse_closed()
            found: list[Entry] = []
            for channel, number in positions.items():
                found += self._behind(channel, number, limit - len(found))
            return found

        return await self._bell.first(look, positions, wait_s=wait_s)

    async def end(self, channel: str) -> str:
        """The position behind everything that is there now."""
        check_channel(channel)
        self._refuse_closed()
        return str(self._channels[channel].last) if channel in self._channels else "0"

    async def drop(self, channel: str, upto: str) -> None:
        """Forget what stands in a mailbox up to a position."""
        self._refuse_closed()
        there, number = self._channels.get(channel), _number(upto) or 0
        while there is not None and there.bodies and there.dropped < number:
            there.forget()

    async def recall(self, query: str, k: int, wanted: Wanted) -> Sequence[Message]:  # noqa: ARG002
        """Not here."""
        raise no_recall("memory://")

    async def aclose(self) -> None:
        """Wake whoever waits."""
        self.closed = True
        self._bell.ring_all()

    def _behind(self, name: str, number: int | None, limit: int) -> list[Entry]:
        channel = self._channels.get(name)
        if channel is None:
            return []
        before = max(number or 0, channel.dropped)
        missed = 0 if number is None or is_mailbox(name) else before - number
        return [
            Entry(
                channel=name,
                position=str(n),
                message=decoded(channel.bodies[n]),
                missed=missed if n == before + 1 else 0,
            )
            for n in range(before + 1, min(before + limit, channel.last) + 1)
        ]

    def _refuse_closed(self) -> None:
        if self.closed:
            raise closed()


def _number(position: str) -> int | None:
    """The number of the last message that was read; None for the start."""
    try:
        return int(position) if position else None
    except ValueError:
        raise no_position(position) from None


def mailbox_full(owner: str, keep: int) -> StorageError:
    """The error for a mailbox that holds as much as it may."""
    return StorageError(
        f"the mailbox of {owner} holds {keep} messages that nobody has acknowledged",
        remedy="wait until its owner has read some, or keep= more",
    )


def no_recall(place: str) -> UsageError:
    """The error for a log that knows no meanings."""
    return UsageError(
        f"messages in {place} cannot be recalled by their meaning",
        remedy="keep them in a vector store: open_messages('store+local://folder')",
    )


def no_position(position: str) -> UsageError:
    """The error for a position that no log has given."""
    return UsageError(f"{position[:50]!r} is no position of these messages", remedy="give a cursor as it was got")


def closed() -> UsageError:
    """The error for a log that was closed."""
    return UsageError("these messages are closed", remedy="open them again")
