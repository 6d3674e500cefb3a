"""What is kept of the agents of shards: what they heard before anything follows from it, and how they ended."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from aurora_swarm.agents.driver import Recorded
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.ledger import Keep, Ledger, Page
from aurora_swarm.batch.shard_results import written
from aurora_swarm.batch.shard_writer import ShardWriter
from aurora_swarm.batch.stored import decode_heard, encode_heard
from aurora_swarm.errors import StorageError
from aurora_swarm.journal.null import NullJournal
from aurora_swarm.values.event import Event, ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.shard import Result, Turn, Unfinished


class ToolNotes:
    """A sink that keeps what tools did, until the results that it belongs to are written."""

    def __init__(self) -> None:
        self._notes: dict[int, list[ToolEnded]] = defaultdict(list)

    def emit(self, event: Event) -> None:
        """Keep it, if it is of a tool."""
        if isinstance(event, ToolEnded):
            self._notes[event.index].append(event)

    def take(self, index: int) -> list[ToolEnded]:
        """What the tools of one agent did; it is forgotten then."""
        return self._notes.pop(index, [])


class ShardLedger(Ledger):
    """A ledger over the shards that a process owns.

    Args:
        output: What counts as an answer.
        notes: What tools did.
    """

    def __init__(self, output: OutputSpec, notes: ToolNotes) -> None:
        super().__init__(NullJournal(), output)
        self._notes = notes
        self._known: dict[str, tuple[Unfinished, ShardWriter]] = {}

    @property
    def keeps(self) -> bool:
        """Everything is kept."""
        return True

    def expect(self, unfinished: Unfinished, writer: ShardWriter) -> None:
        """A job is to be opened, and this is what is known of it."""
        self._known[unfinished.job.key] = unfinished, writer

    def forget(self, key: str) -> None:
        """A job is not under way any more, whatever ended it."""
        known = self._known.pop(key, None)
        if known is not None:
            self._notes.take(known[0].job.index)

    async def open(self, key: str, index: int) -> Page:
        """What is known of one agent, which is begun now.

        Raises:
            FencedError: The shard has another owner.
            StorageError: The store cannot be reached any more.
        """
        del index
        unfinished, writer = self._known[key]
        await writer.begin(key)
        return ShardPage(unfinished, writer, self._notes)


class ShardPage(Page):
    """What is kept of one agent of a shard.

    A turn that the store has is not replaced: from where a conversation leaves what was recorded, nothing more of it
    is, so that no recording is ever a mixture of two.

    Args:
        unfinished: What is known of it.
        writer: Of its shard.
        notes: What tools did.
    """

    def __init__(self, unfinished: Unfinished, writer: ShardWriter, notes: ToolNotes) -> None:
        super().__init__(None, unfinished.job.key, unfinished.job.index, [], "")
        self._job = unfinished.job
        self._writer = writer
        self._notes = notes
        self._has = len(unfinished.turns)
        self.steps = _readable(unfinished.turns)
        self._follows = len(self.steps) == self._has

    @property
    def keep(self) -> Keep:
        """Makes one more thing that it heard durable."""
        return self._keep

    async def finish(self, result: AgentResult[Any]) -> AgentResult[Any]:
        """Make a result durable, ok or not."""
        return await write_result(self._writer, result, self._job.key, self._notes.take(self._job.index))

    async def _keep(self, step: int, heard: Recorded) -> None:
        self._follows = self._follows and step >= self._has
        if self._follows:
            await self._writer.turn(Turn(self._job.key, step, encode_heard(heard)))


async def write_result(
    writer: ShardWriter, result: AgentResult[Any], key: str, tools: list[ToolEnded]
) -> AgentResult[Any]:
    """Make a result durable; where its output cannot be written down, a failure in its place.

    Args:
        writer: Of its shard.
        result: Ok or not.
        key: Its job's.
        tools: What its tools did.

    Returns:
        What was written.

    Raises:
        FencedError: The shard has another owner.
        StorageError: The store cannot be reached any more.
    """
    try:
        payload = written(result, tools)
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        error = StorageError(
            f"the output cannot be kept: {str(problem).splitlines()[0]}",
            remedy="give the output schema fields that can be written as JSON",
        )
        result = msgspec.structs.replace(result, ok=False, output=None, error=error)
        payload = written(result, tools)
    await writer.result(Result(key, payload))
    return result


def _readable(turns: tuple[bytes, ...]) -> tuple[Recorded, ...]:
    steps: list[Recorded] = []
    for turn in turns:
        heard = decode_heard(turn)
        if heard is None:
            break
        steps.append(heard)
    return tuple(steps)
