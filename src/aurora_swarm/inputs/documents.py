"""YAML, TOML and JSON documents: their data, and the line and column of everything in them.

YAML is read as YAML 1.2 has it: ``no`` and ``12:30`` and ``2026-01-01`` are text, ``010`` is ten.
Keys that are given twice, anchors and tags are refused.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic

import msgspec
import yaml

from aurora_swarm.errors import InputError
from aurora_swarm.inputs.files import InputErrorT, StrPath, describe, read_text, show
from aurora_swarm.inputs.jsontext import JsonFlaw, decode_json

Trail = tuple[str | int, ...]
Place = tuple[int, int]

_LIMIT_BYTES = 16 * 2**20
_PLACED_TOML_CHARS = 2**14


class Document(msgspec.Struct, frozen=True):
    """A document and where its parts stand.

    Args:
        source: The file.
        data: Plain data: objects, lists, text, numbers, booleans and None.
        find_places: Line and column, 1-based, of what a trail of keys and indices leads to; the key's where
            there is one. Not every format knows every place. Called when there is an error to place.
    """

    source: str
    data: Any
    find_places: Callable[[], Mapping[Trail, Place]]

    def error(self, kind: type[InputErrorT], trail: Trail, problem: str, remedy: str) -> InputErrorT:
        """An error at the place of a trail, or at the nearest one around it that is known."""
        places = self.find_places()
        around = (places[trail[:n]] for n in range(len(trail), 0, -1) if trail[:n] in places)
        line, column = next(around, (None, None))
        return kind(problem, source=self.source, line=line, column=column, field=dotted(trail), remedy=remedy)


def dotted(trail: Trail) -> str:
    """A trail as people write it: ``inputs[2].name``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in trail).removeprefix(".")


def load_document(path: StrPath, error: type[InputErrorT], suffixes: tuple[str, ...]) -> Document:
    """Read a document in the format that its suffix names.

    Args:
        path: The file.
        error: What to raise.
        suffixes: Those that are accepted, among ``.yaml``, ``.yml``, ``.toml`` and ``.json``.

    Raises:
        InputError: As `error`: the file cannot be read, has another suffix, or is malformed.
    """
    text = read_text(path, error, limit_bytes=_LIMIT_BYTES)
    suffix = Path(path).suffix.lower()
    if suffix not in suffixes:
        problem = f"the suffix {show(suffix)} names no format"
        raise error(problem, source=str(path), remedy=f"name the file {' or '.join(f'*{s}' for s in suffixes)}")
    return _PARSERS[suffix](text, str(path), error)


def _parse_json(text: str, source: str, error: type[InputErrorT]) -> Document:
    value = decode_json(text)
    if isinstance(value, JsonFlaw):
        raise value.as_error(error, source, "correct the JSON at this place")
    return Document(source, value, lambda: _yaml_places(text))


def _parse_toml(text: str, source: str, error: type[InputErrorT]) -> Document:
    try:
        data = tomllib.loads(text)
        plain = msgspec.to_builtins(data)  # dates become text, as JSON has them
    except tomllib.TOMLDecodeError as exc:
        problem, _, place = str(exc).partition(" (at ")
        found = _TOML_PLACE.match(place)
        end = text.count("\n") + 1, len(text) - text.rfind("\n")  # the place is "end of document" otherwise
        line, column = (int(found[1]), int(found[2])) if found else end
        problem = f"malformed TOML: {problem[:1].lower()}{problem[1:]}"
        raise error(problem, source=source, line=line, column=column, remedy="correct the TOML at this place") from exc
    except RecursionError as exc:
        raise error("TOML that is nested too deeply", source=source, remedy="use fewer levels") from exc
    except ValueError as exc:
        raise error(f"malformed TOML: {exc}", source=source, remedy="correct the value") from exc
    return Document(source, plain, lambda: _toml_places(text, data))


_TOML_PLACE = re.compile(r"line (\d+), column (\d+)")


def _toml_places(text: str, data: dict[str, Any]) -> dict[Trail, Place]:
    """Lines of the top-level keys: the standard library's parser does not keep them."""
    places: dict[Trail, Place] = {}
    if len(text) > _PLACED_TOML_CHARS:
        return places
    for found in re.finditer(r"^([ \t]*)(?:\[+[ \t]*)?([A-Za-z0-9_-]+|\"[^\"\n]*\")", text, re.MULTILINE):
        key = found.group(2).strip('"')
        if key in data and (key,) not in places and _is_statement(text[: found.start()]):
            places[(key,)] = (text.count("\n", 0, found.start()) + 1, len(found.group(1)) + 1)
    return places


def _is_statement(before: str) -> bool:
    """Whether what follows is no part of a multi-line value: the text before it is a document of its own."""
    try:
        tomllib.loads(before)
    except (tomllib.TOMLDecodeError, ValueError):
        return False
    return True


def _parse_yaml(text: str, source: str, error: type[InputErrorT]) -> Document:
    reader = _YamlReader(source, error)
    data = reader.read(text)
    return Document(source, data, lambda: reader.places)


def _yaml_places(text: str) -> dict[Trail, Place]:
    """Places in a JSON text, which is YAML too; none where YAML is pickier."""
    reader = _YamlReader("", InputError)
    try:
        reader.read(text)
    except InputError:
        return {}
    return reader.places


class _YamlReader(Generic[InputErrorT]):
    """Builds data from the parser's events, which know their places; the library's constructors do not keep them."""

    def __init__(self, source: str, error: type[InputErrorT]) -> None:
        self.places: dict[Trail, Place] = {}
        self._source = source
        self._error = error
        self._errors: list[InputErrorT] = []
        self._events: Iterator[yaml.Event] = iter(())

    def read(self, text: str) -> Any:
        """The one document of the text; None when it is empty."""
        try:
            self._events = yaml.parse(text, Loader=_YAML_LOADER)
            data = self._document()
        except yaml.YAMLError as exc:
            raise self._syntax_error(exc) from exc
        except RecursionError as exc:
            raise self._error("YAML that is nested too deeply", source=self._source, remedy="use fewer levels") from exc
        except (ValueError, OverflowError) as exc:  # the parser's own, for an escape that is no character
            remedy = "check its escapes and long numbers"
            raise self._error(f"malformed YAML: {exc}", source=self._source, remedy=remedy) from exc
        if self._errors:
            raise self._error.all_of(self._errors)
        return data

    def _document(self) -> Any:
        data = None
        seen = False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    self._refuse(event, (), "a second document", "keep one; a line --- starts another")
                    break
                seen = True
                data = self._value(next(self._events), ())
        return data

    def _value(self, event: yaml.Event, trail: Trail) -> Any:
        if isinstance(event, yaml.NodeEvent) and (event.anchor or getattr(event, "tag", None)):
            self._refuse(event, trail, "an anchor, alias or tag", "write the value out, without & * or !")
        match event:
            case yaml.MappingStartEvent():
                return self._mapping(trail)
            case yaml.SequenceStartEvent():
                return self._sequence(trail)
            case yaml.ScalarEvent():
                return event.value if event.style else self._plain(event.value)
        return None

    def _sequence(self, trail: Trail) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self.places[(*trail, len(items))] = _place(event)
            items.append(self._value(event, (*trail, len(items))))
        return items

    def _mapping(self, trail: Trail) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, trail)
            if not isinstance(key, str):
                self._refuse(event, trail, f"a key that is not text: {describe(key)}", "put the key in quotes")
                key = str(key)
            inner = (*trail, key)
            if key in found:
                problem = f"the key {show(key)} is given twice, first in line {self.places[inner][0]}"
                self._refuse(event, inner, problem, "keep one of the two")
            self.places[inner] = _place(event)
            found[key] = self._value(next(self._events), inner)
        return found

    def _plain(self, text: str) -> Any:
        for pattern, read in _YAML_SCALARS:
            if pattern.fullmatch(text):
                return read(text)
        return text

    def _refuse(self, event: yaml.Event, trail: Trail, problem: str, remedy: str) -> None:
        line, column = _place(event)
        self._errors.append(
            self._error(problem, source=self._source, line=line, column=column, field=dotted(trail), remedy=remedy)
        )

    def _syntax_error(self, exc: yaml.YAMLError) -> InputErrorT:
        mark = exc.problem_mark if isinstance(exc, yaml.MarkedYAMLError) else None
        problem = exc.problem if isinstance(exc, yaml.MarkedYAMLError) else str(exc).split("\n", maxsplit=1)[0]
        return self._error(
            f"malformed YAML: {problem}",
            source=self._source,
            line=mark.line + 1 if mark else None,
            column=mark.column + 1 if mark else None,
            remedy="check indentation and quotes; put text with a colon or a brace in quotes, or write it after |",
        )


def _place(event: yaml.Event) -> Place:
    mark: Any = event.start_mark  # a parser's event always has one
    return mark.line + 1, mark.column + 1


_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_YAML_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), float),
)
_PARSERS: dict[str, Callable[[str, str, type[InputError]], Document]] = {
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
    ".json": _parse_json,
}
