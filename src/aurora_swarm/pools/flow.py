"""Many items through a bounded number of workers, results as they finish."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from typing import Any, Generic, Protocol, TypeVar

ItemT = TypeVar("ItemT")
GivenT = TypeVar("GivenT")
ResultT = TypeVar("ResultT")


class _End:
    """Stands for the end of an iterable."""


_END = _End()


async def _nothing() -> AsyncIterator[Any]:
    return
    yield


class _Source(Generic[ItemT]):
    """Numbers the items of any iterable and hands them out one at a time."""

    def __init__(self, items: Iterable[ItemT] | AsyncIterable[ItemT]) -> None:
        self._sync = None if isinstance(items, AsyncIterable) else iter(items)
        self._async = aiter(items) if isinstance(items, AsyncIterable) else _nothing()
        self._lock = asyncio.Lock()
        self._count = 0
        self._ended = False

    def end(self) -> None:
        """Hand out nothing more."""
        self._ended = True

    async def take(self) -> tuple[int, ItemT] | None:
        """The next item with its index; None after the last, and after the iterable has raised."""
        if self._sync is not None:
            return None if self._ended else self._numbered(next(self._sync, _END))
        async with self._lock:
            return None if self._ended else self._numbered(await anext(self._async, _END))

    def _numbered(self, item: ItemT | _End) -> tuple[int, ItemT] | None:
        if isinstance(item, _End):
            self._ended = True
            return None
        self._count += 1
        return self._count - 1, item

    async def aclose(self) -> None:
        """Let an async generator end its own work."""
        if isinstance(self._async, AsyncGenerator):
            await self._async.aclose()


class _Channel(Generic[ResultT]):
    """Results on their way from many writers to one reader, at most `width` of them."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._items: deque[ResultT] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._closed = False

    async def put(self, item: ResultT) -> None:
        self._items.append(item)
        self._wake()
        while len(self._items) > self._width:
            self._room.clear()
            await self._room.wait()

    async def get(self) -> tuple[ResultT] | None:
        """One result, wrapped; None when the channel is closed and empty."""
        while not self._items:
            if self._closed:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        item = self._items.popleft()
        if not self._room.is_set():
            self._room.set()
        return (item,)

    def close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Gate(Protocol):
    """Says when a further item may be taken."""

    def enter_now(self) -> bool:
        """Enter if it may be taken now; whether it was."""
        ...

    async def enter(self) -> None:
        """Wait until it may."""
        ...

    def leave(self) -> None:
        """There was no further item."""
        ...


class _Crew(Generic[ItemT, ResultT]):
    """Workers that take items and put results; grows with the items, up to its width."""

    def __init__(
        self,
        source: _Source[ItemT],
        work: Callable[[int, ItemT], Awaitable[ResultT]],
        width: int,
        gate: Gate | None,
    ) -> None:
        self._source = source
        self._work = work
        self._width = width
        self._gate = gate
        self._tasks: set[asyncio.Task[None]] = set()
        self.results: _Channel[ResultT] = _Channel(width)
        self.kept: list[ResultT] | None = None
        self.error: BaseException | None = None

    def hire(self) -> None:
        if len(self._tasks) < self._width:
            task = asyncio.get_running_loop().create_task(self._run())
            self._tasks.add(task)
            task.add_done_callback(self._leave)

    async def _run(self) -> None:
        hired = False
        while (taken := await self._take()) is not None:
            if not hired:
                hired = True
                self.hire()
            result = await self._work(*taken)
            if self.kept is None:
                await self.results.put(result)
            else:
                self.kept.append(result)

    async def _take(self) -> tuple[int, ItemT] | None:
        if self._gate is None:
            return await self._source.take()
        if not self._gate.enter_now():
            await self._gate.enter()
        taken = None
        try:
            taken = await self._source.take()
        finally:
            if taken is None:
                self._gate.leave()
        return taken

    def _leave(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.error = self.error or task.exception()
            self._source.end()
        if not self._tasks:
            self.results.close()

    async def dismiss(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._source.aclose()


async def as_they_finish(
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    work: Callable[[int, ItemT], Awaitable[ResultT]],
    *,
    width: int,
    gate: Gate | None = None,
) -> AsyncGenerator[ResultT, None]:
    """Work on items, at most `width` at a time; yield results in order of completion.

    Items are pulled when a worker is free, so they may be endless; a slow reader slows the workers down.
    Closing the iterator early cancels what is under way and waits until it is gone.

    Args:
        items: Pulled one at a time.
        work: Called with the item's index and the item.
        width: Items under way at a time.
        gate: Entered before each item is taken; `work` has what that brings. None for none.

    Raises:
        Exception: Whatever `items` or `work` raised first; what others had under way is finished and yielded before.
    """
    crew = _Crew(_Source(items), work, width, gate)
    crew.hire()
    try:
        while (result := await crew.results.get()) is not None:
            yield result[0]
        if crew.error is not None:
            raise crew.error
    finally:
        await crew.dismiss()


async def all_finished(
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    work: Callable[[int, ItemT], Awaitable[ResultT]],
    *,
    width: int,
    gate: Gate | None = None,
) -> list[ResultT]:
    """As `as_they_finish`, for who wants nothing before the end: a list costs less than a reader who is woken for each.

    Returns:
        The results in order of completion.

    Raises:
        Exception: Whatever `items` or `work` raised first.
    """
    crew = _Crew(_Source(items), work, width, gate)
    crew.kept = []
    crew.hire()
    try:
        await crew.results.get()
        if crew.error is not None:
            raise crew.error
    finally:
        await crew.dismiss()
    return crew.kept


async def together(work: Iterable[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
    """All results in order.

    Raises:
        Exception: What was raised first; the rest is cancelled, as it is when the caller is.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def unchanged(index: int, given: GivenT) -> GivenT:  # noqa: ARG001 - as `in_order` calls it
    """For `in_order` where the work's own result is what is wanted."""
    return given


async def in_order(
    items: Sequence[ItemT],
    work: Callable[[int, ItemT], Awaitable[GivenT]],
    *,
    then: Callable[[int, GivenT], ResultT],
    width: int,
) -> list[ResultT]:
    """Work on a list, at most `width` items at a time.

    Args:
        items: May be empty.
        work: Called with the item's index and the item.
        then: Makes a result of the index and of what the work gave.
        width: Items under way at a time.

    Returns:
        One result per item, in the order of `items`.

    Raises:
        Exception: What `work` raised first; the rest is cancelled, as it is when the caller is.
    """
    results: list[Any] = [None] * len(items)
    source = enumerate(items)

    async def worker() -> None:
        for index, item in source:
            results[index] = then(index, await work(index, item))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(width, len(items))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return results
