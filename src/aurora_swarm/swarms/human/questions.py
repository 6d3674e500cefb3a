"""What a person is asked, and what counts as an answer. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

import msgspec

from aurora_swarm.errors import UsageError

Answer = str | float | bool
"""Of a text or a choice its text, of a number the number, of yes or no whether it is yes."""

Kind = Literal["text", "number", "choice", "yes_no"]

MAX_ANSWER_CHARS = 10_000

_YES = frozenset({"yes", "y", "true"})
_NO = frozenset({"no", "n", "false"})
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


class AnswerRefusedError(ValueError):
    """What a person said is no answer; the text is a sentence for that person."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker wants to know of a person.

    Args:
        id: Unique among those who answer.
        worker: Who asks, as people call it.
        text: The question; a model's text, so that it is shown and never interpreted.
        options: Of a choice, what there is to choose from, each once.
        kind: What counts as an answer.
        default: What is taken when nobody answers in time; None for nothing, so that asking fails then. It is not
            checked.
        deadline_s: Seconds from asking.
        validate: Checks an answer that is of the right kind: returns a sentence about what is wrong with it, or raises
            `ValueError` with one; None for a good one.
        problem: What was wrong with the last answer, where a function is asked again; empty at first.

    Raises:
        UsageError: A choice of nothing or with an option twice, options of something else, or a deadline that is not
            above 0 and finite.
    """

    id: str
    worker: str
    text: str
    options: tuple[str, ...] = ()
    kind: Kind = "text"
    default: Answer | None = None
    deadline_s: float = 300.0
    validate: Callable[[Answer], str | None] | None = None
    problem: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "choice") != bool(self.options):
            problem = f"a question of kind {self.kind} has {len(self.options)} options"
            raise UsageError(problem, remedy="give options to a choice, and to nothing else")
        if len(set(self.options)) < len(self.options):
            raise UsageError("an option of a choice is there twice", remedy="give each option once")
        if not 0 < self.deadline_s < math.inf:
            raise UsageError(f"deadline_s is {self.deadline_s}", remedy="give a number of seconds above 0")


def checked(question: Question, given: Answer) -> Answer:
    """The answer that somebody's words are.

    A choice may be made by its number, counted from 1, unless that is the text of an option. Upper and lower case do
    not matter where only one option is meant.

    Raises:
        AnswerRefusedError: It is none; the text says what is expected, or is what `Question.validate` said.
        TypeError: `Question.validate` returned neither a sentence nor None.
        Exception: Whatever else it raised.
    """
    answer = _of_kind(question, given)
    if question.validate is not None:
        try:
            wrong: object = question.validate(answer)
        except ValueError as error:
            raise AnswerRefusedError(str(error) or "This answer cannot be used.") from None
        if wrong is not None and not isinstance(wrong, str):
            raise TypeError("validate returns a sentence about what is wrong, or None")
        if wrong:
            raise AnswerRefusedError(wrong)
    return answer


def expected(question: Question) -> str:
    """What a person may answer, as a short sentence."""
    match question.kind:
        case "choice":
            return f"Answer with a number from 1 to {len(question.options)}, or with an option's text."
        case "number":
            return "Answer with a number, for example 12 or 0.5."
        case "yes_no":
            return "Answer yes or no."
        case _:
            return "Answer in your own words."


def spelt(answer: Answer) -> str:
    """An answer as a person reads it."""
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return f"{answer:.15g}" if isinstance(answer, int | float) else answer


def span(seconds: float) -> str:
    """A time that is left, as a person reads it: ``4 min 10 s``."""
    whole = max(0, math.ceil(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _of_kind(question: Question, given: Answer) -> Answer:
    text = (spelt(given) if not isinstance(given, str) else given).strip()
    if not text:
        raise AnswerRefusedError(f"An empty answer cannot be used. {expected(question)}")
    if len(text) > MAX_ANSWER_CHARS:
        raise AnswerRefusedError(f"The answer has {len(text):,} characters; {MAX_ANSWER_CHARS:,} are the most.")
    match question.kind:
        case "choice":
            return _chosen(question, text)
        case "number":
            return _number(question, text)
        case "yes_no":
            return _yes(question, text)
        case _:
            return text


def _chosen(question: Question, text: str) -> str:
    options = question.options
    if text in options:
        return text
    alike = [option for option in options if option.strip().casefold() == text.casefold()]
    if len(alike) == 1:
        return alike[0]
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= len(options):
        return options[int(text[:9]) - 1]
    raise AnswerRefusedError(f"This is none of the options. {expected(question)}")


def _number(question: Question, text: str) -> float:
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
    raise AnswerRefusedError(f"This is no number. {expected(question)}")


def _yes(question: Question, text: str) -> bool:
    word = text.casefold()
    if word in _YES or word in _NO:
        return word in _YES
    raise AnswerRefusedError(f"This is neither yes nor no. {expected(question)}")
