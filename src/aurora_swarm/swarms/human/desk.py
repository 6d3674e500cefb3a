"""Where questions lie until somebody answers: what all ways of asking a person have in common."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, Literal

import msgspec

from aurora_swarm.errors import AuroraSwarmError, CallbackError, UnansweredError, UsageError
from aurora_swarm.swarms.human.questions import Answer, AnswerRefusedError, Question, checked, span, spelt

REMEMBERED = 1_000
"""Closed questions that are remembered, so that whoever answers late is told what became of them."""

_SHOWN_CHARS = 120

State = Literal["accepted", "invalid", "answered", "late", "withdrawn", "unknown"]


class Receipt(msgspec.Struct, frozen=True):
    """What came of an attempt to answer.

    Args:
        state: ``accepted``; ``invalid``: try again; ``answered`` by somebody before; ``late``: the deadline has passed;
            ``withdrawn``: nobody wants to know any more; ``unknown``: there is no such question.
        text: The same as a sentence for who answered.
    """

    state: State
    text: str

    @property
    def ok(self) -> bool:
        """Whether it is the answer."""
        return self.state == "accepted"


class OpenQuestion(msgspec.Struct, frozen=True):
    """A question that waits.

    Args:
        question: What is asked.
        left_s: Seconds until its deadline.
    """

    question: Question
    left_s: float


class ClosedQuestion(msgspec.Struct, frozen=True):
    """A question that no longer waits.

    Args:
        question: What was asked.
        state: ``answered``, ``late`` or ``withdrawn``.
        answer: What the worker was told; None when it was told nothing.
    """

    question: Question
    state: State
    answer: Answer | None = None


class _Waiting(msgspec.Struct):
    question: Question
    due_s: float
    answer: asyncio.Future[Answer]


class Desk:
    """Questions that wait for an answer. Belongs to one event loop.

    The first valid answer wins. Is a `aurora_swarm.swarms.human.port.Human` itself, whose questions are answered by
    calling `submit`.

    Attributes:
        version: Changes whenever a question comes or goes.
    """

    def __init__(self) -> None:
        self.version = 0
        self._waiting: dict[str, _Waiting] = {}
        self._closed: OrderedDict[str, ClosedQuestion] = OrderedDict()
        self._change = asyncio.Event()
        self._is_shut = False

    async def ask(self, question: Question) -> Answer:
        """Lay a question on the desk and wait for its answer; as `aurora_swarm.swarms.human.port.Human.ask`."""
        if question.id in self._waiting:
            raise UsageError(f"question {question.id} is open already", remedy="give each question an id of its own")
        if self._is_shut:
            return _unanswered(question, "nobody can answer any more")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(question, loop.time() + question.deadline_s, loop.create_future())
        self._waiting[question.id] = waiting
        timer = loop.call_at(waiting.due_s, self._expire, waiting)
        self._note()
        try:
            return await waiting.answer
        finally:
            timer.cancel()
            self._close(waiting, "withdrawn", None)

    async def ask_while(self, question: Question, seeing: Coroutine[Any, Any, None]) -> Answer:
        """As `ask`, with a coroutine that sees to the answer; it begins once the question is open, and ends with it.

        Raises:
            Exception: Whatever `seeing` raised, besides what `ask` raises.
        """
        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(seeing)
                try:
                    return await self.ask(question)
                finally:
                    task.cancel()
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    def submit(self, id: str, given: Answer) -> Receipt:  # noqa: A002 - what it is called everywhere
        """Answer a question.

        Args:
            id: Which.
            given: The answer, or a person's words for it.

        Returns:
            Whether it was taken, and a sentence about that. Nothing is raised for a wrong answer.
        """
        waiting = self._open(id)
        if waiting is None:
            return self.receipt(id)
        try:
            answer = checked(waiting.question, given)
        except AnswerRefusedError as error:
            return Receipt("invalid", str(error))
        except Exception as error:  # noqa: BLE001 - a check of the user's may raise anything
            self.fail(id, CallbackError(f"the check of an answer raised {type(error).__name__}: {error}"))
            return Receipt("withdrawn", "Your answer could not be checked. The worker was told so.")
        waiting.answer.set_result(answer)
        self._close(waiting, "answered", answer)
        return Receipt("accepted", f"Thank you. {waiting.question.worker} goes on with your answer.")

    def receipt(self, id: str) -> Receipt:  # noqa: A002
        """What somebody would be told who answered a question that is closed; ``unknown`` for any other."""
        closed = self._closed.get(id)
        if closed is None:
            return Receipt("unknown", "There is no such question. It may have been asked long ago.")
        return Receipt(closed.state, _words(closed))

    def questions(self) -> list[OpenQuestion]:
        """Those that wait, in the order of asking."""
        now = asyncio.get_running_loop().time()
        return [OpenQuestion(each.question, max(0.0, each.due_s - now)) for each in self._waiting.values()]

    def closed(self, limit: int) -> list[ClosedQuestion]:
        """Those that were closed last, the newest first."""
        return [each for each, _ in zip(reversed(self._closed.values()), range(limit), strict=False)]

    def give_up(self, id: str, why: str) -> None:  # noqa: A002
        """Nobody will answer it: its default is taken, or asking fails.

        Args:
            id: Which; one that does not wait is let alone.
            why: In words, for the error.
        """
        waiting = self._open(id)
        if waiting is not None:
            self._give_up(waiting, "withdrawn", why)

    def fail(self, id: str, error: AuroraSwarmError) -> None:  # noqa: A002
        """Asking fails, whatever its default; a question that does not wait is let alone."""
        waiting = self._open(id)
        if waiting is not None:
            waiting.answer.set_exception(error)
            self._close(waiting, "withdrawn", None)

    async def changed(self, seen: int) -> int:
        """Wait until `version` is another than `seen`, and return it."""
        while self.version == seen:
            await self._change.wait()
        return self.version

    def shut(self) -> None:
        """Give up all questions, and those that are asked from now on."""
        self._is_shut = True
        for id in list(self._waiting):  # noqa: A001
            self.give_up(id, "nobody can answer any more")
        self._note()

    def _open(self, id: str) -> _Waiting | None:  # noqa: A002
        """The question that waits; one whose asker was cancelled in this moment does not."""
        waiting = self._waiting.get(id)
        if waiting is not None and waiting.answer.done():
            self._close(waiting, "withdrawn", None)
            return None
        return waiting

    def _expire(self, waiting: _Waiting) -> None:
        if not waiting.answer.done():
            self._give_up(waiting, "late", f"nobody answered within {span(waiting.question.deadline_s)}")

    def _give_up(self, waiting: _Waiting, state: State, why: str) -> None:
        try:
            answer = _unanswered(waiting.question, why)
        except UnansweredError as error:
            waiting.answer.set_exception(error)
            self._close(waiting, state, None)
        else:
            waiting.answer.set_result(answer)
            self._close(waiting, state, answer)

    def _close(self, waiting: _Waiting, state: State, answer: Answer | None) -> None:
        """Take a question off the desk; the first reason is the one that is remembered."""
        question = waiting.question
        if self._waiting.get(question.id) is not waiting:
            return
        del self._waiting[question.id]
        self._closed[question.id] = ClosedQuestion(question, state, answer)
        self._closed.move_to_end(question.id)
        if len(self._closed) > REMEMBERED:
            self._closed.popitem(last=False)
        self._note()

    def _note(self) -> None:
        self.version += 1
        change, self._change = self._change, asyncio.Event()
        change.set()


def _unanswered(question: Question, why: str) -> Answer:
    if question.default is not None:
        return question.default
    asked = " ".join(question.text.split())[:_SHOWN_CHARS]
    raise UnansweredError(f"{why}: {asked}", remedy="allow more time, or give a default")


def _words(closed: ClosedQuestion) -> str:
    worker = closed.question.worker
    match closed.state:
        case "answered":
            return f"This question is already answered; {worker} went on with the first answer."
        case "late":
            if closed.answer is None:
                return f"The time for this question is over; {worker} had to do without an answer."
            return f"The time for this question is over; {worker} went on with: {spelt(closed.answer)}"
        case _:
            return f"{worker} no longer needs an answer to this question."
