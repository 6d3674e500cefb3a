"""An objective that is too long for a prompt: kept in a file, cut into chunks, found again by what is asked.

The text goes into a file. It is cut between sentences into chunks of at most 8,000 tokens, and these into small
passages that overlap; passages are what is embedded and stored, each with its chunk and its place in the text. An agent
is told how the objective begins and has a tool that searches the rest. Passages are found by meaning and by words
(`aurora_swarm.memory.search`): embeddings alone miss too many single facts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel, Field

from aurora_swarm.errors import StorageError, UsageError
from aurora_swarm.memory.chunks import (
    CHUNK_TOKENS,
    OVERLAP_TOKENS,
    PASSAGE_TOKENS,
    Chunk,
    Passage,
    chunks_of,
    passages_of,
)
from aurora_swarm.memory.search import HybridSearch
from aurora_swarm.ports.store import Scalar, VectorStore
from aurora_swarm.swarms.citations import Citations, citations_in
from aurora_swarm.swarms.excerpts import excerpt, shortened
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.tools.definition import AnyTool, Tool
from aurora_swarm.tools.texts import estimated_tokens

LONG_TOKENS = 1_000
"""An objective of more tokens does not go into a prompt as a whole."""

_HEAD_CHARS = 1_200
_FIELDS = {"chunk": "int", "passage": "int", "start": "int", "end": "int"}

CountTokens = Callable[[str], int]


class LongObjective:
    """An objective of any length, as agents use it. Made by `LongObjective.open`; any number of tasks may use it.

    One that is not long is one chunk and one passage: it is in `prompt` as a whole, there is nothing to search, and
    neither file nor store is touched.

    Attributes:
        text: All of it. Half a surrogate pair, which no wire carries, is a question mark.
        chunks: What it is cut into; put together they are the text.
        passages: What is embedded, in the order of the text.
        path: The file that holds it; None when it is not long.
        tools: The tool ``search_objective``, or nothing when it is not long.
    """

    def __init__(
        self,
        text: str,
        chunks: tuple[Chunk, ...],
        passages: tuple[Passage, ...],
        *,
        path: Path | None = None,
        search: HybridSearch | None = None,
    ) -> None:
        self.text = text
        self.chunks = chunks
        self.passages = passages
        self.path = path
        self.tools: tuple[AnyTool, ...] = () if search is None else (search_tool(self),)
        self._search = search

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        text: str,
        store: VectorStore,
        *,
        folder: Path | str | None = None,
        count: CountTokens = estimated_tokens,
        long_tokens: int = LONG_TOKENS,
        chunk_tokens: int = CHUNK_TOKENS,
        passage_tokens: int = PASSAGE_TOKENS,
        overlap_tokens: int = OVERLAP_TOKENS,
    ) -> AsyncIterator[LongObjective]:
        """Cut an objective, write it to a file, and make it searchable.

        Args:
            text: The objective, of any length.
            store: Where its passages are kept, in a collection of their own.
            folder: Where the file is written. It and the collection then stay, and the same text is not embedded again.
                When None, both are temporary and gone at the end.
            count: Counts the tokens of a text; may be called on a thread. Four bytes are taken for a token by default.
            long_tokens: An objective of more tokens is long.
            chunk_tokens: Tokens of a chunk at most.
            passage_tokens: Tokens of a passage at most.
            overlap_tokens: Tokens that a passage shares with the one before it at most.

        Raises:
            UsageError: The objective is empty, or a number is out of range.
            StorageError: The file or the store cannot be written.
            StoreError: The store may not be used in this way.
        """
        text = text.encode("utf-8", "replace").decode()
        if not text.strip():
            raise UsageError("the objective is empty", remedy="say what is wanted")
        if await asyncio.to_thread(count, text) <= long_tokens:
            chunk = Chunk(1, 0, len(text), count(text))
            yield cls(text, (chunk,), (Passage(1, 1, 0, len(text), text.strip()),))
            return
        chunks = await asyncio.to_thread(chunks_of, text, count, chunk_tokens)
        passages = await asyncio.to_thread(passages_of, text, chunks, count, passage_tokens, overlap_tokens)
        async with AsyncExitStack() as stack:
            shape = f"{text}\0{passage_tokens}\0{overlap_tokens}\0{chunk_tokens}\0{[chunk.end for chunk in chunks]}"
            name = f"objective-{hashlib.sha256(shape.encode()).hexdigest()[:16]}"
            if folder is None:
                folder = stack.enter_context(TemporaryDirectory(prefix="aurora-swarm-", ignore_cleanup_errors=True))
                collection = await store.collection(f"{name}-{new_id()}", fields=_FIELDS)
                stack.push_async_callback(store.drop, collection.name)
            else:
                collection = await store.collection(name, fields=_FIELDS)
            path = await asyncio.to_thread(_write, Path(folder) / f"{name}.txt", text)
            search = await HybridSearch.open(
                collection, store.embedder, [each.text for each in passages], [_metadata(each) for each in passages]
            )
            yield cls(text, tuple(chunks), tuple(passages), path=path, search=search)

    @property
    def prompt(self) -> str:
        """What an agent is told of it: all of it, or how it begins and how the rest is read. Goes first in a prompt."""
        if self._search is None:
            return self.text
        return (
            f"The objective is a text of {len(self.chunks)} chunks, too long to be shown. It begins:\n"
            f"{excerpt('beginning', shortened(self.text.strip(), _HEAD_CHARS))}\n"
            "Call search_objective with a question to read what it says about something. "
            "After each thing that you take from it, write the number of its chunk, like this: [chunk 3]."
        )

    async def relevant(self, question: str, k: int = 4) -> list[Passage]:
        """The passages that answer a question best, best first.

        Args:
            question: In words of its own.
            k: How many at most; at least 1.

        Raises:
            UsageError: `k` is below 1.
            StoreError: The store was closed, or its collection is gone.
            CallError: The embedder's endpoint did not answer.
        """
        if k < 1:
            raise UsageError(f"k is {k}", remedy="ask for one passage at least")
        if self._search is None:
            return list(self.passages)
        return [self.passages[position] for position in await self._search.ranked(question, k)]

    def citations(self, text: str) -> Citations:
        """Which chunks a text cites, and whether there are such chunks."""
        return citations_in(text, range(1, len(self.chunks) + 1))


def search_tool(objective: LongObjective, found_by: dict[Passage, None] | None = None, k: int = 4) -> AnyTool:
    """The tool ``search_objective``: passages with the numbers of their chunks, as data.

    Args:
        objective: What it searches.
        found_by: What it finds is noted there, in the order of finding; None for nowhere.
        k: Passages of one search.
    """

    async def search_objective(question: str) -> list[dict[str, Any]]:
        found = await objective.relevant(question, k)
        if found_by is not None:
            found_by.update(dict.fromkeys(found))
        return [{"chunk": each.chunk, "passage": each.number, "text": each.text} for each in found]

    return Tool(
        search_objective,
        name="search_objective",
        description="Read the passages of the objective that say most about a question.",
        arguments=_Search,
        effect="pure",
    )


class _Search(BaseModel):
    """What the tool takes."""

    question: str = Field(min_length=1, description="What is asked, as a sentence or in a few words.")


def _metadata(passage: Passage) -> dict[str, Scalar]:
    return {"chunk": passage.chunk, "passage": passage.number, "start": passage.start, "end": passage.end}


def _write(path: Path, text: str) -> Path:
    """Write the file, whole or not at all: a reader never sees half of it."""
    part = path.with_suffix(f".{new_id()}.part")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        part.replace(path)
    except OSError as error:
        raise StorageError(
            f"the objective cannot be written: {error.strerror or error}", path=str(path), remedy="give another folder"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path
