"""What agents remember, and the tools by which a model does so: ``remember`` and ``recall``.

What is found is told as the answer of a tool: data, with who wrote it and when, never part of a prompt's own words.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.errors import UsageError
from aurora_swarm.memory.open import open_store
from aurora_swarm.ports.store import Collection, Document, Scalar, Where
from aurora_swarm.tools.definition import AnyTool, Tool

MOST_RECALLED = 20
"""Documents that one recall finds at most."""

RECALLED_TOKENS = 2_000
"""Tokens of what was found that a model is shown, so that a prompt does not grow with the memory."""

_LASTS = "memory:"
"""A store in this process alone is gone when it is closed, so that it is kept as long as anybody holds the memory."""


class _Place:
    """A collection that is opened by the first who needs it and closed by the last."""

    def __init__(self, source: Collection | str, name: str) -> None:
        self._source = source
        self._name = name
        self._users = 0
        self._lock = asyncio.Lock()
        self._stack: AsyncExitStack | None = None
        self._collection: Collection | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Collection]:
        """The collection; one that was given is used as it is and stays open."""
        if not isinstance(self._source, str):
            yield self._source
            return
        collection = await self._enter(self._source)
        try:
            yield collection
        finally:
            await self._leave(self._source)

    async def _enter(self, url: str) -> Collection:
        async with self._lock:
            if self._collection is None:
                self._collection = await self._open(url)
            self._users += 1
            return self._collection

    async def _open(self, url: str) -> Collection:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(url))
            collection = await store.collection(self._name)
            self._stack = stack.pop_all()
        return collection

    async def _leave(self, url: str) -> None:
        # Counted before anything is awaited: who is cancelled while waiting for the lock has left all the same.
        self._users -= 1
        if self._users or url.startswith(_LASTS):
            return
        async with self._lock:
            if self._users == 0 and self._stack is not None:
                stack, self._stack, self._collection = self._stack, None, None
                await stack.aclose()


class Memory:
    """Where agents remember. May be given to any number of them, whole or in part.

    Args:
        source: A collection, or the URL of a store (``memory://``, ``local://path``, ``chroma://host:port``), which the
            first who needs it opens and the last closes. What is in ``memory://`` lasts as long as this object.
        name: Name of the collection in the store.
    """

    def __init__(self, source: Collection | str, *, name: str = "memory") -> None:
        self._place = _Place(source, name)
        self._topics: tuple[str, ...] = ()
        self._own_task = False

    def limited(self, *, topics: tuple[str, ...] = (), own_task: bool = False) -> Memory:
        """The same memory for agents that may see a part of it only; what is limited already stays so.

        Args:
            topics: Only what was remembered under these is found, and only under these is something remembered; empty
                for no limit.
            own_task: Whether only what was remembered for the task at hand is found.

        Raises:
            UsageError: None of the topics is left by an earlier limit.
        """
        left = tuple(topic for topic in topics if not self._topics or topic in self._topics)
        if topics and not left:
            problem = f"none of the topics {', '.join(topics)} is among those granted: {', '.join(self._topics)}"
            raise UsageError(problem, remedy="limit the whole memory instead of a part of it")
        part = copy.copy(self)
        part._topics = left or self._topics  # noqa: SLF001 - of the same class
        part._own_task = self._own_task or own_task  # noqa: SLF001
        return part

    @asynccontextmanager
    async def tools(self, *, who: str, task: str = "") -> AsyncIterator[tuple[AnyTool, AnyTool]]:
        """``remember`` and ``recall`` as one agent has them while it works on one task.

        Args:
            who: Id of the agent or worker; stands in what it remembers.
            task: Id of the task; stands there too.

        Raises:
            StoreError: The store cannot be opened.
        """
        async with self._place.opened() as collection:
            where: dict[str, str | frozenset[str]] = {}
            if self._topics:
                where["topic"] = frozenset(self._topics)
            if self._own_task:
                where["task"] = task
            desk = Notes(collection, who=who, task=task, where=where)
            remember = REMEMBER.of(desk)
            yield (remember.limit(topic=self._topics) if self._topics else remember, RECALL.of(desk))


class Recalled(msgspec.Struct, frozen=True):
    """A text as it is told to who recalls it.

    Args:
        text: What was remembered.
        topic: Under what.
        who: Id of who remembered it.
        when: Seconds since 1970.
        similarity: Of the question to it, -1 to 1.
    """

    text: str
    topic: str
    who: str
    when: float
    similarity: float


class Notes:
    """A collection as one agent writes to it and reads from it.

    Args:
        collection: Where documents are kept; each says ``who``, ``when``, ``topic`` and ``task``.
        who: Who writes.
        task: For which task.
        where: What is found at all.
        now_s: Seconds since 1970.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        who: str,
        task: str = "",
        where: Where | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._collection = collection
        self._who = who
        self._task = task
        self._where = where
        self._now_s = now_s

    async def remember(self, text: str, topic: str) -> None:
        """Keep a text; the same text for the same task and topic is kept once, so that repeating it does no harm.

        Raises:
            StoreError: The collection has other rules for documents.
            StorageError: It cannot be written.
        """
        metadata: dict[str, Scalar] = {"who": self._who, "when": self._now_s(), "topic": topic, "task": self._task}
        name = "\0".join((self._who, self._task, topic, text))
        key = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        await self._collection.upsert([Document(key, text, metadata)])

    async def recall(self, question: str, k: int) -> list[Recalled]:
        """The texts nearest to a question, nearest first; whatever else is in the collection counts as unsigned."""
        found = await self._collection.query(question, max(1, min(k, MOST_RECALLED)), where=self._where or None)
        return [_recalled(match.document, match.similarity) for match in found]


def _recalled(document: Document, similarity: float) -> Recalled:
    said = document.metadata
    when = said.get("when", 0.0)
    return Recalled(
        text=document.text,
        topic=str(said.get("topic", "")),
        who=str(said.get("who", "")),
        when=round(when, 3) if isinstance(when, int | float) else 0.0,
        similarity=round(similarity, 3),
    )


class RememberArguments(BaseModel):
    """Parameters of ``remember``."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(description="What is worth knowing later, in a sentence or two.", min_length=1, max_length=4000)
    topic: str = Field(description="A word or two that it is about.", min_length=1, max_length=100)


class RecallArguments(BaseModel):
    """Parameters of ``recall``."""

    model_config = ConfigDict(extra="forbid")
    question: str = Field(description="What you want to know.", min_length=1, max_length=2000)
    k: int = Field(5, description="How many texts at most.", ge=1, le=MOST_RECALLED)


class NotesTool(Tool[..., Any]):
    """A tool on an agent's notes: offered to all alike, so that prompts are; bound to one agent's by `of`."""

    notes: Notes | None = None

    def of(self, notes: Notes) -> NotesTool:
        """This tool on somebody's notes."""
        bound = copy.copy(self)
        bound.notes = notes
        return bound

    def call_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the model gave, and the notes."""
        return {**values, "notes": self.notes}


async def _remember(text: str, topic: str, notes: Notes) -> str:
    await notes.remember(text, topic)
    return "remembered"


async def _recall(question: str, k: int, notes: Notes) -> object:
    found = await notes.recall(question, k)
    return [msgspec.structs.asdict(each) for each in found] or "nothing is remembered about that"


REMEMBER = NotesTool(
    _remember,
    name="remember",
    description="Keep a text for later, for you and those you work with.",
    arguments=RememberArguments,
    effect="idempotent",
)
RECALL = NotesTool(
    _recall,
    name="recall",
    description="Find what was remembered earlier, by meaning.",
    arguments=RecallArguments,
    effect="idempotent",
    max_tokens=RECALLED_TOKENS,
)
