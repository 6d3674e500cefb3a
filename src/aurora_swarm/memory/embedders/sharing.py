"""Texts of many tasks, embedded in few requests: what fails in one of them fails only those who had a text in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from aurora_swarm.errors import AuroraSwarmError, BadResponseError
from aurora_swarm.memory.checking import Vectors, normalised

EmbedSome = Callable[[list[str]], Awaitable[Sequence[Sequence[float] | AuroraSwarmError]]]
"""Embeds the texts of one request, a vector or an error for each; or raises an `AuroraSwarmError` for all of them."""


async def embed_for_all(
    asked: Sequence[Sequence[str]], embed: EmbedSome, *, size: int, width: int
) -> list[Vectors | Exception]:
    """Embed what several tasks asked for.

    Args:
        asked: Each task's texts; none of them empty.
        embed: Does one request.
        size: Texts per request at most.
        width: Requests at a time at most.

    Returns:
        For each task its vectors, of length 1, or the first error among them.
    """
    texts = [text for some in asked for text in some]
    slots = asyncio.Semaphore(width)

    async def request(part: list[str]) -> Sequence[Sequence[float] | AuroraSwarmError]:
        async with slots:
            try:
                return await embed(part)
            except AuroraSwarmError as error:
                return [error] * len(part)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(request(texts[start : start + size])) for start in range(0, len(texts), size)]
    made = iter([vector for task in tasks for vector in task.result()])
    return [_together([next(made) for _ in some]) for some in asked]


def _together(vectors: Sequence[Sequence[float] | AuroraSwarmError]) -> Vectors | Exception:
    sound: list[Sequence[float]] = []
    for vector in vectors:
        if isinstance(vector, AuroraSwarmError):
            return vector
        sound.append(vector)
    if len({len(vector) for vector in sound}) != 1:
        return BadResponseError("vectors of different lengths came", remedy="let all endpoints serve one model")
    made = np.array(sound, dtype=np.float64)
    return normalised(made) if np.isfinite(made).all() else BadResponseError("a vector holds what is no finite number")
