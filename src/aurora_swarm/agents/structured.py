"""What counts as an answer: constrained while it is generated, parsed strictly, repaired at need, validated. Pure."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import msgspec
from pydantic import BaseModel, PydanticUserError, ValidationError

from aurora_swarm.errors import InvalidOutputError, SchemaError
from aurora_swarm.inputs.schema import SchemaValidator, check_schema
from aurora_swarm.tools.decoding import MAX_LENGTH, fit

MAX_STRING = MAX_LENGTH
"""Characters of a string whose schema sets no bound: a small model repeats itself without end otherwise."""

_MAX_PROBLEMS = 3
_MAX_PROBLEM_CHARS = 300
_MAX_REPAIR_CHARS = 50_000
"""Mending is slow, and slower with depth; a longer text is hardly an answer that was merely written badly."""

_MAX_REPAIR_DEPTH = 50
_BRACKET = re.compile(r"[][{}]")
_BY_NAME: dict[str, Any] = {"by_alias": True, "by_name": True}
_EMPTY_TEXT = re.compile(r'(?<!\\)(?<=[:,\[\s])(?:""|\'\')(?=\s*[,\]}])')
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_SINGLE_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_LITERALS = {"None": "null", "True": "true", "False": "false"}
_LITERAL = re.compile(r"\b(?:None|True|False)\b")
_PUNCTUATION = re.compile(r"[\s\"'`,:\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}]+")


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A valid answer.

    Args:
        value: An instance of the model, plain data for a JSON schema, or the text.
        repaired: Whether the JSON had to be repaired before it was valid.
    """

    value: Any
    repaired: bool = False


class OutputSpec:
    """What an answer must be.

    Args:
        schema: A pydantic model, a JSON schema of an object, or None for any text that is not empty.

    Attributes:
        schema: The JSON schema, made fit for constrained decoding; None for text.
        encoded: The same as JSON.

    Raises:
        SchemaError: The schema cannot be used.
    """

    def __init__(self, schema: type[BaseModel] | Mapping[str, Any] | None) -> None:
        self._model: type[BaseModel] | None = None
        self._validator: SchemaValidator | None = None
        self.schema: dict[str, Any] | None = None
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            self._model = schema
            self.schema = fit(_schema_of(schema), MAX_STRING)
        elif isinstance(schema, Mapping):
            plain = json.loads(json.dumps(dict(schema)))
            check_schema(plain)
            self._validator = SchemaValidator(plain)
            self.schema = fit(plain, MAX_STRING)
        elif schema is not None:
            raise SchemaError(
                f"is a {type(schema).__name__}",
                source="output_schema",
                remedy="give a pydantic model, a JSON schema as a dict, or None for text",
            )
        self.encoded = None if self.schema is None else msgspec.Raw(msgspec.json.encode(self.schema))

    def parse(self, text: str) -> Parsed:
        """The answer that a text is.

        A valid text is never changed. One that is not JSON is repaired, and what comes of that must be valid too.

        Raises:
            InvalidOutputError: It is none; the problem names fields and is written for the model.
        """
        if self.schema is None:
            if not text.strip():
                raise InvalidOutputError("it is empty", text=text)
            return Parsed(text)
        if self._model is not None and _is_plainly_strict(text):
            return Parsed(self._valid(None, text, text))
        try:
            data = load_json(text)
        except ValueError as error:
            repaired = _repaired(text)
            if repaired is None:
                raise InvalidOutputError(f"it is not JSON: {error}", text=text) from None
            return Parsed(self._valid(json.loads(repaired), repaired, text), repaired=True)
        return Parsed(self._valid(data, text, text))

    def revive(self, stored: bytes) -> Any:
        """The value of an answer that was kept as JSON, its fields under their own names.

        Raises:
            InvalidOutputError: It is not valid any more.
        """
        if self.schema is None:
            return msgspec.json.decode(stored)
        return self._valid(msgspec.json.decode(stored), stored.decode(), "", revived=True)

    def _valid(self, data: Any, encoded: str, text: str, *, revived: bool = False) -> Any:
        """The value of `data`, which is what `encoded` says, or the error about `text`."""
        if self._model is not None:
            try:
                # As JSON, so that what JSON cannot say (a date, a set) is read from what it can.
                return self._model.model_validate_json(encoded, **(_BY_NAME if revived else {}))
            except ValidationError as error:
                raise InvalidOutputError(_sentence(_of_pydantic(error)), text=text) from None
        assert self._validator is not None
        if found := self._validator.problems(data):
            raise InvalidOutputError(_sentence(found), text=text)
        return data


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    try:
        return model.model_json_schema()
    except PydanticUserError as error:
        problem = f"{model.__name__} has no JSON schema: {error.message}"
        raise SchemaError(problem, source="output_schema", remedy="use types that JSON has") from error


def _is_plainly_strict(text: str) -> bool:
    """Whether a text is strict JSON for sure: an object of plain values in which each key stands once.

    A quick look that spares most answers a slow one. A key has a colon, so as many colons as keys means no key twice.
    """
    try:
        data = _QUICK.decode(text)
    except (msgspec.MsgspecError, ValueError):  # half a surrogate pair among them
        return False
    return len(data) == text.count(":")


_QUICK = msgspec.json.Decoder(dict[str, str | int | float | bool | None])


def load_json(text: str) -> Any:
    """Strict JSON: no NaN, no infinity, no key twice.

    Raises:
        ValueError: It is not that; the message is short.
    """
    try:
        return _STRICT.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key occurs twice")
    return data


# Made once: making one takes longer than reading an answer.
_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique, parse_float=_finite)


def _repaired(text: str) -> str | None:
    """The JSON that a text holds or evidently means, None when there is none.

    Only how it is written is mended: prose and fences around it, quotes, commas, the spelling of true, false and
    null. A text that was cut off, or that leaves a value out, is not mended, for nobody knows what it would have said.
    """
    section = _section(text)
    if section is None:
        return None
    try:
        return json.dumps(load_json(section))
    except ValueError:
        pass
    if len(section) > _MAX_REPAIR_CHARS or _depth(section) > _MAX_REPAIR_DEPTH:
        return None
    import json_repair  # noqa: PLC0415 - wanted only when an engine does not constrain its answers

    try:
        mended = json.dumps(json_repair.loads(section), allow_nan=False)
    except (ValueError, RecursionError):
        return None
    return mended if _substance(mended) == _substance(section) and _keeps_texts(section, mended) else None


def _section(text: str) -> str | None:
    """From the first bracket to the last, after a model's thoughts; None when brackets are missing."""
    _, _, spoken = text.rpartition("</think>")
    begin, end = spoken.find("{"), spoken.rfind("}")
    section = spoken[begin : end + 1]
    balanced = section.count("{") == section.count("}") and section.count("[") == section.count("]")
    return section if begin >= 0 and section and balanced else None


def _depth(section: str) -> int:
    """How deeply brackets are nested, those within texts counted too."""
    steps = (1 if bracket in "{[" else -1 for bracket in _BRACKET.findall(section))
    return max(itertools.accumulate(steps), default=0)


def _substance(text: str) -> str:
    """A JSON-like text without what a repair may change; equal when nothing was dropped, invented or moved.

    A quote that stands for an empty value is kept, because it is a value.
    """
    text = _EMPTY_TEXT.sub("\N{EMPTY SET}", text)
    text = _ESCAPE.sub(_unescaped, text)
    text = _LITERAL.sub(lambda match: _LITERALS[match.group()], text)
    return _PUNCTUATION.sub("", text)


def _keeps_texts(section: str, mended: str) -> bool:
    """Whether every quoted text stands unchanged, and in its order, in what became of the section."""
    quoted = _DOUBLE_QUOTED if '"' in section else _SINGLE_QUOTED
    after = map(_read_text, _DOUBLE_QUOTED.findall(mended))
    return all(text in after for text in map(_read_text, quoted.findall(section)))


def _read_text(content: str) -> str:
    """What stands between two quotes, its escapes read."""
    try:
        text: str = json.loads(f'"{content}"', strict=False)
    except ValueError:
        return content
    return text


def _unescaped(match: re.Match[str]) -> str:
    code = match.group(1)
    if len(code) == 1:
        return "" if code in "bfnrt" else code
    return chr(int(code[1:], 16))


def _of_pydantic(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in detail["loc"])
        yield f"field {place}: {detail['msg']}" if place else detail["msg"]


def _sentence(problems: Any) -> str:
    listed = list(problems)
    more = f"; and {len(listed) - _MAX_PROBLEMS} more" if len(listed) > _MAX_PROBLEMS else ""
    return "; ".join(problem[:_MAX_PROBLEM_CHARS] for problem in listed[:_MAX_PROBLEMS]) + more
