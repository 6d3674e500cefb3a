"""What a batch keeps of its agents: every turn before the tools that it asks for run, every result before it is told.

A turn's key holds a digest of the turns before it. So a recording never continues with what followed on another turn:
where one is missing or damaged it ends, and what is said instead begins a branch of its own. A record that cannot be
read any more is replaced under a key that is made of its content, because the first write of a key wins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from aurora_swarm.agents.driver import Recorded
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.batch.stored import decode_heard, encode_heard, from_record, to_record
from aurora_swarm.errors import StorageError
from aurora_swarm.journal.null import NullJournal
from aurora_swarm.ports.journal import Journal
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.record import Record

Keep = Callable[[int, Recorded], Awaitable[None]]
Found = Mapping[str, Record]
T = TypeVar("T")


class Ledger:
    """Keeps the turns and results of one run; what the run itself wrote it does not look up again.

    Args:
        journal: Where they are kept. One that keeps nothing, or that was empty when the run began, is never asked.
        output: What counts as an answer; a kept one that is none any more is worked out again.
        conditions: What decides which questions a conversation consists of and is no part of a key, such as the room
            that summaries by the model are asked for by. Conversations are taken up under equal conditions only; under
            others they begin anew, effects included, because what was heard would answer another question there.
    """

    def __init__(self, journal: Journal, output: OutputSpec, conditions: str = "") -> None:
        self._branch = _digest("", conditions.encode()) if conditions else ""
        self._journal = None if isinstance(journal, NullJournal) else journal
        self._output = output
        self._asks = journal.statistics().records > 0
        self._unsaved: list[int] = []

    @property
    def unsaved(self) -> tuple[int, ...]:
        """Indices of the inputs whose results were there and could not be written."""
        return tuple(sorted(self._unsaved))

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._journal is not None

    async def open(self, key: str, index: int) -> Page:
        """What is known of one agent, and where the rest of it is kept.

        One look into the journal; a conversation that was interrupted takes one more per recorded turn.

        Args:
            key: Content key of the input.
            index: Its position.

        Raises:
            StorageError: The journal cannot be read.
        """
        page = Page(self._journal, key, index, self._unsaved, self._branch)
        if self._asks and self._journal is not None:
            await page.read(self._journal, self._output)
        return page


class Page:
    """What is kept of one agent. Made by `Ledger.open`.

    Args:
        journal: Where it is kept; None for nowhere.
        key: Content key of the input.
        index: Its position.
        unsaved: Takes the index when the result cannot be written.
        branch: Part of the turns' keys, by the conditions under which they were taken.

    Attributes:
        result: The result of an earlier run, if it came to one.
        steps: What the agent heard in an earlier run that did not come to a result, from the beginning on.
    """

    def __init__(self, journal: Journal | None, key: str, index: int, unsaved: list[int], branch: str) -> None:
        self.result: AgentResult[Any] | None = None
        self.steps: tuple[Recorded, ...] = ()
        self._journal = journal
        self._key = self._result_key = key
        self._step_key = f"{key}#{branch}"
        self._index = index
        self._unsaved = unsaved

    @property
    def keep(self) -> Keep | None:
        """Makes one more thing that it heard durable; None where nothing is kept."""
        # Made when it is asked for: a page that held its own method would wait for the collector, which lets it wait.
        return self._keep if self._journal is not None else None

    async def read(self, journal: Journal, output: OutputSpec) -> None:
        """Look up the result, and where there is none the turns.

        Raises:
            StorageError: The journal cannot be read.
        """

        def result(payload: bytes) -> AgentResult[Any] | None:
            return from_record(Record(self._key, payload), self._index, output)

        found = await journal.find((self._result_key, self._step_key))
        self.result, self._result_key, _ = await _latest(journal, found, self._result_key, result)
        steps: list[Recorded] = []
        while self.result is None:
            step: tuple[Recorded | None, str, bytes] = await _latest(journal, found, self._step_key, decode_heard)
            heard, self._step_key, payload = step
            if heard is None:
                break
            steps.append(heard)
            self._step_key = _following(self._step_key, payload)
            found = await journal.find((self._step_key,))
        self.steps = tuple(steps)

    async def finish(self, result: AgentResult[Any]) -> AgentResult[Any]:
        """Make a result durable if it is ok; the last turn is in it. What failed is not kept: it is tried again.

        Returns:
            The result to hand on: the same, or a failed one where its output cannot be written down.

        Raises:
            StorageError: It could not be written; `Ledger.unsaved` names it from now on.
        """
        if self._journal is None or not result.ok:
            return result
        try:
            record = Record(self._result_key, to_record(result).payload)
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            error = StorageError(
                f"the output cannot be kept: {str(problem).splitlines()[0]}",
                remedy="give the output schema fields that can be written as JSON, or run without a journal",
            )
            return msgspec.structs.replace(result, ok=False, output=None, error=error)
        try:
            await self._journal.append(record)
        except StorageError:
            self._unsaved.append(self._index)
            raise
        return result

    async def _keep(self, step: int, heard: Recorded) -> None:
        """Make what the agent heard durable.

        Args:
            step: Its place in the conversation; for who reads a traceback, the order of the calls is what counts.
            heard: A reply that asks for tools, or what the tool calls came to.

        Raises:
            StorageError: It could not be written.
        """
        del step
        assert self._journal is not None
        record = Record(self._step_key, encode_heard(heard))
        self._step_key = _following(record.key, record.payload)
        await self._journal.append(record)


async def _latest(
    journal: Journal, found: Found, key: str, read: Callable[[bytes], T | None]
) -> tuple[T | None, str, bytes]:
    """What a key stands for: the first that can be read of its record and those that replace it.

    Returns:
        It, its key and its payload; None, and the key for it, where nothing can be read.
    """
    while (record := found.get(key)) is not None:
        value = read(record.payload)
        if value is not None:
            return value, key, record.payload
        key = f"{key}~{_digest(key, record.payload)}"
        found = await journal.find((key,))
    return None, key, b""


def _following(key: str, payload: bytes) -> str:
    """The key of the turn after this one; as long as that of any other turn."""
    return f"{key.partition('#')[0]}#{_digest(key, payload)}"


def _digest(key: str, payload: bytes) -> str:
    return hashlib.blake2b(f"{len(key)}:{key}".encode() + payload, digest_size=12).hexdigest()
