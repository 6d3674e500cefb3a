"""What a batch works on: the inputs that a path names, and how many they are."""

from __future__ import annotations

import asyncio
import itertools
import os
import queue
import sys
import threading
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from aurora_swarm.cli.keeping import check_kept
from aurora_swarm.inputs.records import InputFormat, count_inputs, read_inputs
from aurora_swarm.inputs.template import Template

HELD_BYTES = 4 * 2**20
"""A file up to this size is read and checked as a whole before anything starts; a larger one as it is needed."""

T = TypeVar("T")


class Source(NamedTuple):
    """Inputs of a batch.

    Args:
        inputs: One mapping per agent.
        total: How many; None when that would take long to find out.
    """

    inputs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
    total: int | None


def open_source(
    given: str | Sequence[Mapping[str, Any]],
    template: Template,
    *,
    format_: InputFormat | None = None,
    pattern: str = "*",
    keep: Sequence[str] = (),
) -> Source:
    """The inputs that a path names, or that are given as they are.

    Args:
        given: A file, a folder, ``-`` for standard input, or the inputs.
        template: What they fill; the first of them is checked against it.
        format_: How to read them; by default the suffix decides.
        pattern: Which files of a folder.
        keep: Fields that they must have besides.

    Raises:
        InputError: They lack a field of `keep`, they cannot be read, or something in them is malformed.
        TemplateError: They lack a field that the template names.
    """
    if not isinstance(given, str):
        _check(template, keep, given[:1], "inputs")
        return Source(given, len(given))
    source = "standard input" if given == "-" else given
    # A reader of our own: a thread that waits in the process's own stdin keeps the interpreter from ending.
    stdin = os.fdopen(os.dup(sys.stdin.fileno()), "rb") if given == "-" else None
    records = read_inputs(given, format=format_, pattern=pattern, stdin=stdin)
    if _is_held(given):
        held = list(records)
        _check(template, keep, held[:1], source)
        return Source(held, len(held))
    first = list(itertools.islice(records, 1))
    _check(template, keep, first, source)
    rest = itertools.chain(first, records)
    if given == "-":
        return Source(AwaitedInputs(rest), None)
    return Source(rest, count_inputs(given, format=format_, pattern=pattern))


def _check(template: Template, keep: Sequence[str], first: Sequence[Mapping[str, Any]], source: str) -> None:
    for fields in first:
        template.check(fields, source)
        check_kept(keep, fields, source)


def _is_held(path: str) -> bool:
    file = Path(path)
    return path != "-" and file.is_file() and file.stat().st_size <= HELD_BYTES


class AwaitedInputs(Generic[T]):
    """Items that take their time, such as lines that are still typed: waited for beside the event loop, one at a time.

    The thread that waits is a daemon's: reading cannot be cancelled, and must not keep the process from ending.

    Args:
        items: Advanced in one thread only.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._wanted: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Future[list[T]]]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="inputs", daemon=True)

    def __aiter__(self) -> AwaitedInputs[T]:
        self._thread.start()
        return self

    async def __anext__(self) -> T:
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[list[T]] = loop.create_future()
        self._wanted.put((loop, taken))
        found = await taken
        if not found:
            raise StopAsyncIteration
        return found[0]

    def _read(self) -> None:
        while True:
            loop, taken = self._wanted.get()
            found: list[T] = []
            error: Exception | None = None
            try:
                found = list(itertools.islice(self._items, 1))
            except Exception as raised:  # noqa: BLE001 - handed over to whoever waits
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, taken, found, error)


def _settle(taken: asyncio.Future[list[T]], found: list[T], error: Exception | None) -> None:
    if taken.done():
        return
    if error is not None:
        taken.set_exception(error)
    else:
        taken.set_result(found)
