"""One action for all who ask at the same time.

Whoever asks while an action is under way waits for the next one, which takes all of them at once. So the time that one
action takes sets how many share it, never how many are served in a second.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from aurora_swarm.errors import StoreError

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

Act = Callable[[list[Asked]], Awaitable[Sequence[Answer | Exception]]]
"""Answers several at once, one answer each in their order; an exception among them is raised where it was asked."""


class Gathering(Generic[Asked, Answer]):
    """Hands what many tasks ask to one action at a time, in the order in which it was asked.

    Belongs to one event loop. A task that is cancelled while it waits does not take back what it asked.

    Args:
        act: The action. What it raises is raised by all who took part in it.
        most: Questions to one action at most.
        name: What is closed, for the error of one who comes too late.
    """

    def __init__(self, act: Act[Asked, Answer], *, most: int, name: str = "the store") -> None:
        self._act = act
        self._most = most
        self._name = name
        self._waiting: deque[tuple[Asked, asyncio.Future[Answer]]] = deque()
        self._serving: asyncio.Task[None] | None = None
        self._closed = False

    async def __call__(self, asked: Asked) -> Answer:
        """Ask, and wait for the answer.

        Raises:
            StoreError: It is closed.
        """
        self.refuse_closed()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((asked, future))
        if self._serving is None:
            self._serving = loop.create_task(self._serve())
        return await future

    def refuse_closed(self) -> None:
        """Raise `StoreError` where it is closed."""
        if self._closed:
            raise StoreError(f"{self._name} is closed", remedy="open it again")

    async def aclose(self) -> None:
        """Answer all who asked, and nobody any more. May be called twice; goes on when it is cancelled."""
        self._closed = True
        if self._serving is not None:
            await asyncio.shield(self._serving)

    async def _serve(self) -> None:
        try:
            while self._waiting:
                taken = list(islice(self._waiting, self._most))
                for _ in taken:
                    self._waiting.popleft()
                await self._answer(taken)
        finally:
            self._serving = None
            self._abandon()

    async def _answer(self, taken: list[tuple[Asked, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._act([asked for asked, _ in taken])
        except Exception as error:  # noqa: BLE001 - raised by all who wait for it
            answers = [copy.copy(error) for _ in taken]
        except BaseException:
            for _, future in taken:
                future.cancel()
            raise
        for (_, future), answer in zip(taken, answers, strict=True):
            _settle(future, answer)

    def _abandon(self) -> None:
        """The loop is being torn down: who still waits is cancelled, too."""
        while self._waiting:
            self._waiting.popleft()[1].cancel()


def _settle(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.done():
        return  # whoever asked was cancelled
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
