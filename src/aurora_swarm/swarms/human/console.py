"""Asks on the terminal that the program runs in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from aurora_swarm.swarms.human.desk import Desk
from aurora_swarm.swarms.human.lines import Lines, standard_input
from aurora_swarm.swarms.human.questions import Answer, Question, expected, span, spelt

Write = Callable[[str], object]


class ConsoleHuman:
    """Asks one question at a time on a terminal; the loop is never blocked, and the others wait for their turn.

    A question's time runs from asking, so that waiting for the turn is part of it. What is typed while nothing is asked
    is no answer: it is dropped when the next question is shown, and the person is told so. Lines of a pipe are taken in
    order instead. At the end of the input, questions have their defaults, or fail.

    Args:
        descriptor: What is read; standard input when None. Nothing else may read it while a question is open.
        write: Told what is to be shown; writes to standard error when None, so that standard output stays data.

    Attributes:
        desk: The open questions.

    Raises:
        UsageError: There is no standard input.
    """

    def __init__(self, *, descriptor: int | None = None, write: Write | None = None) -> None:
        self.desk = Desk()
        self._lines = Lines(standard_input() if descriptor is None else descriptor)
        self._write = write or _to_stderr
        self._turn = asyncio.Lock()
        self._last = ""

    async def ask(self, question: Question) -> Answer:
        """As `aurora_swarm.swarms.human.port.Human.ask`.

        Raises:
            OSError: The terminal cannot be written to.
        """
        return await self.desk.ask_while(question, self._show(question))

    async def _show(self, question: Question) -> None:
        async with self._turn:
            self._tell_of_dropped()
            self._last = question.id
            self._write(self._asked(question))
            try:
                await self._converse(question)
            except asyncio.CancelledError:
                # Nobody typed the end of it: say on the terminal why the question is gone.
                receipt = self.desk.receipt(question.id)
                if receipt.state in {"late", "withdrawn"}:
                    self._write(f"\n{plain(receipt.text)}\n")
                raise

    async def _converse(self, question: Question) -> None:
        while True:
            line = await self._lines.next()
            if line is None:
                self._write("\n")
                self.desk.give_up(question.id, "the input has ended")
                return
            receipt = self.desk.submit(question.id, line)
            self._write(f"{plain(receipt.text)}\n")
            if receipt.state != "invalid":
                return
            self._write("> ")

    def _tell_of_dropped(self) -> None:
        for line in self._lines.drop_typed():
            if line.strip() and self._last:
                self._write(f"Not used: {plain(line)}\n{plain(self.desk.receipt(self._last).text)}\n")

    def _asked(self, question: Question) -> str:
        waiting = self.desk.questions()
        left_s = next((each.left_s for each in waiting if each.question.id == question.id), 0.0)
        lines = [f"\n--- {plain(question.worker)} asks ---", plain(question.text)]
        lines += [f"  {number}. {plain(option)}" for number, option in enumerate(question.options, 1)]
        lines.append(f"({' '.join(_terms(question, left_s, len(waiting) - 1))})")
        return "\n".join(lines) + "\n> "


def plain(text: str) -> str:
    """Text without what could steer a terminal: models may say anything."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _terms(question: Question, left_s: float, others: int) -> list[str]:
    terms = [expected(question), f"Time left: {span(left_s)}."]
    if question.default is not None:
        terms.append(f"Without an answer: {plain(spelt(question.default))}.")
    if others:
        terms.append(f"{others} more wait{'' if others > 1 else 's'}.")
    return terms


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
