"""Puts the inputs of a run into its store, no more at a time than have room, and knows whose result is whose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any

from aurora_swarm.batch.plan import Keys
from aurora_swarm.batch.run import Inputs
from aurora_swarm.ports.shards import ShardStore
from aurora_swarm.values.shard import Job, Output

CHUNK = 500
"""Inputs that are put in at a time."""

LINGER_S = 0.05
"""How long inputs that came are kept for further ones, where they come one by one."""


class Admission:
    """The inputs of one run on their way into its store.

    Args:
        store: Where to.
        inputs: Pulled as there is room; may be endless.
        window: Inputs without a result at most.
    """

    def __init__(self, store: ShardStore, inputs: Inputs, window: int) -> None:
        self._store = store
        self._inputs = inputs
        self._window = window
        self._keys = Keys()
        self._waiting: dict[str, int] = {}
        self._early: dict[str, Output] = {}
        self._moved = asyncio.Event()
        self.is_whole = False

    @property
    def is_finished(self) -> bool:
        """Whether every input has its result."""
        return self.is_whole and not self._waiting

    @property
    def wants_outputs(self) -> bool:
        """Whether outputs are to be read: those of a run that is continued may be far ahead of its inputs."""
        return self.is_whole or len(self._early) < self._window or len(self._waiting) >= self._window

    async def admit(self) -> None:
        """Put in all inputs.

        Raises:
            InputError: An input cannot be sent to another process.
            StorageError: The store cannot be reached any more.
            Exception: Whatever `inputs` raised.
        """
        index = 0
        try:
            async for chunk in _in_chunks(self._inputs):
                jobs = [self._keys.job(index + place, fields) for place, fields in enumerate(chunk)]
                index += len(jobs)
                await self._put_in(jobs)
        finally:
            self.is_whole = True
            self._moved.set()
        await self._store.close_admission()

    async def moved(self, limit_s: float) -> None:
        """Wait until further inputs are in."""
        self._moved.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._moved.wait()

    def place(self, output: Output) -> int | None:
        """The input that an output belongs to, which has its result then; None where it is not there yet."""
        index = self._waiting.pop(output.result.job, None)
        if index is not None:
            self._moved.set()
        elif not self.is_whole:  # else it is of an input that is none any more
            self._early[output.result.job] = output
        return index

    def take_early(self) -> list[Output]:
        """Outputs that came before their inputs, and whose inputs are there now."""
        return [self._early.pop(key) for key in [key for key in self._early if key in self._waiting]]

    async def _put_in(self, jobs: list[Job]) -> None:
        while len(self._waiting) >= self._window:
            self._moved.clear()
            await self._moved.wait()
        self._waiting |= {job.key: job.index for job in jobs}
        await self._store.admit(jobs)
        self._moved.set()


def _in_chunks(inputs: Inputs) -> AsyncIterator[list[Mapping[str, Any]]]:
    """Inputs in lists. What came before inputs raised is in the last one; then that is raised."""
    return _awaited(inputs) if isinstance(inputs, AsyncIterable) else _pulled(inputs)


async def _pulled(inputs: Iterable[Mapping[str, Any]]) -> AsyncIterator[list[Mapping[str, Any]]]:
    chunk: list[Mapping[str, Any]] = []
    try:
        for fields in inputs:
            chunk.append(fields)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
                await asyncio.sleep(0)
    except Exception:  # the user's iterator may raise anything
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


async def _awaited(inputs: AsyncIterable[Mapping[str, Any]]) -> AsyncIterator[list[Mapping[str, Any]]]:
    """Inputs that come one by one: what came within a moment goes together."""
    source = aiter(inputs)
    coming: asyncio.Task[Mapping[str, Any]] | None = None
    chunk: list[Mapping[str, Any]] = []
    problem: BaseException | None = None
    try:
        while problem is None:
            coming = coming or asyncio.create_task(_next(source))
            done, _ = await asyncio.wait({coming}, timeout=LINGER_S if chunk else None)
            if done:
                task, coming = coming, None
                problem = task.exception()
                chunk += [task.result()] if problem is None else []
            if chunk and (not done or problem is not None or len(chunk) == CHUNK):
                yield chunk
                chunk = []
        if not isinstance(problem, StopAsyncIteration):
            raise problem
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.wait({coming})
        if isinstance(source, AsyncGenerator):
            await source.aclose()


async def _next(source: AsyncIterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    return await anext(source)
