"""Prompt templates: text with ``{name}`` placeholders, and nothing more.

A placeholder is a name in single braces; ``{{`` and ``}}`` are literal braces. There are no
format specifications, attributes or indices, and what is inserted is never looked at again, so
data cannot act as a template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from aurora_swarm.errors import TemplateError
from aurora_swarm.inputs.files import show, suggest

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"\w(?:[\w -]*\w)?")
_DOUBLE_IT = "double a brace that stands for itself: {{ or }}"


class Placeholder(msgspec.Struct, frozen=True):
    """A place in a template that a value goes to.

    Args:
        name: The field.
        line: 1-based line in the template.
        column: 1-based column in that line.
    """

    name: str
    line: int
    column: int


class Template:
    """A checked template; pure, immutable by convention, picklable.

    Names consist of letters, digits and underscores, with spaces and hyphens inside, as the columns
    of a table may have them.

    Args:
        text: The template.
        source: What errors call it, for example a file.

    Attributes:
        text: The template as given.
        source: What errors call it.
        parts: Literal text, braces undoubled, and placeholders, in order; no two texts are neighbours.
        fields: Names of the placeholders.
        prefix: The constant text before the first placeholder; all of it when there is none.

    Raises:
        TemplateError: Braces that are no placeholder; every such place is listed with line and column.
    """

    def __init__(self, text: str, source: str = "") -> None:
        self.text = text
        self.source = source or "template"
        self.parts: tuple[str | Placeholder, ...] = tuple(self._split())
        self.fields = frozenset(part.name for part in self.parts if isinstance(part, Placeholder))
        self.prefix = self.parts[0] if self.parts and isinstance(self.parts[0], str) else ""

    def __repr__(self) -> str:
        return f"Template({show(self.text)})"

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with every placeholder replaced.

        Args:
            values: A value for each of `fields`; further ones are ignored. Text is inserted as it is,
                anything else as compact JSON.

        Raises:
            TemplateError: A value is missing, or cannot be written as JSON.
        """
        return "".join(part if isinstance(part, str) else self._value(part, values) for part in self.parts)

    def check(self, available: Iterable[str], where: str) -> None:
        """Make sure, before any work, that every placeholder can be filled.

        Args:
            available: The fields that inputs have.
            where: Who has them, as the error names it, for example ``reviews.csv``.

        Raises:
            TemplateError: Placeholders that nothing fills; all are listed.
        """
        known = set(available)
        unknown: dict[str, TemplateError] = {}
        for part in self.parts:
            if isinstance(part, Placeholder) and part.name not in known | unknown.keys():
                problem = f"{where} has no field {show(part.name)}"
                unknown[part.name] = self._error(problem, part, suggest(part.name, known) or "it has no fields at all")
        if unknown:
            raise TemplateError.all_of(list(unknown.values()))

    def _split(self) -> Iterator[str | Placeholder]:
        literal: list[str] = []
        errors: list[TemplateError] = []
        line, line_start, end = 1, 0, 0
        for token in _TOKEN.finditer(self.text):
            literal.append(self.text[end : token.start()])
            if newlines := self.text.count("\n", end, token.start()):
                line, line_start = line + newlines, self.text.rfind("\n", end, token.start()) + 1
            place = Placeholder(token.group(1) or "", line, token.start() - line_start + 1)
            end = token.end()
            if token.group() in ("{{", "}}"):
                literal.append(token.group()[0])
            elif _NAME.fullmatch(place.name):
                if text := "".join(literal):
                    yield text
                literal.clear()
                yield place
            else:
                errors.append(self._error(*_brace_problem(token.group(), place)))
        if errors:
            raise TemplateError.all_of(errors)
        if text := "".join([*literal, self.text[end:]]):
            yield text

    def _error(self, problem: str, place: Placeholder, remedy: str) -> TemplateError:
        return TemplateError(
            problem, source=self.source, line=place.line, column=place.column, field=place.name, remedy=remedy
        )

    def _value(self, place: Placeholder, values: Mapping[str, Any]) -> str:
        if place.name not in values:
            raise self._error(f"the input has no field {show(place.name)}", place, suggest(place.name, values))
        value = values[place.name]
        if isinstance(value, str):
            return value
        try:
            return json.dumps(
                value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=msgspec.to_builtins
            )
        except (TypeError, ValueError, RecursionError) as exc:
            problem = f"a value of type {type(value).__name__} cannot be written as JSON"
            raise self._error(problem, place, remedy="give text, numbers, lists or objects of these") from exc


def _brace_problem(braces: str, place: Placeholder) -> tuple[str, Placeholder, str]:
    """What is wrong with braces that are no placeholder: problem, place and remedy."""
    name = place.name
    nameless = Placeholder("", place.line, place.column)
    if len(braces) == 1:
        return f"a single {braces!r}", nameless, _DOUBLE_IT
    if not name.strip():
        return "braces without a name", nameless, f"write {{name}}, or {_DOUBLE_IT}"
    if _NAME.fullmatch(name.strip()):
        return f"{show(braces)} has spaces in its braces", nameless, f"write {{{name.strip()}}}"
    if re.fullmatch(r"\w+(\.\w+|\[[^\]]*\])+", name):
        return f"{show(braces)} reaches into a value", nameless, "give the inner value as a field of its own"
    if re.fullmatch(r"\w+[!:].*", name):
        return f"{show(braces)} asks for a format", nameless, "format the value before; write {name} alone"
    return f"{show(braces)} is not a placeholder", nameless, _DOUBLE_IT
