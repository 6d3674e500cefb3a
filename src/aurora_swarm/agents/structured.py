"""What counts as an answer: constrained while it is generated, parsed strictly, repaired at need, validated. Pure."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import msgspec
from pydantic import BaseModel, TypeAdapter, ValidationError

from aurora_swarm.errors import InvalidOutputError, SchemaError
from aurora_swarm.inputs.schema import SchemaValidator, check_schema

MAX_STRING = 2000
"""Characters of a string whose schema sets no bound: a small model repeats itself without end otherwise."""

_MAX_PROBLEMS = 3


class Parsed(msgspec.Struct, frozen=True):
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
        self._adapter: TypeAdapter[Any] | None = None
        self._validator: SchemaValidator | None = None
        self.schema: dict[str, Any] | None = None
        if isinstance(schema, type) and issubclass(schema, BaseModel):
            self._adapter = TypeAdapter(schema)
            self.schema = _bounded(schema.model_json_schema())
        elif isinstance(schema, Mapping):
            plain = json.loads(json.dumps(dict(schema)))
            check_schema(plain)
            self._validator = SchemaValidator(plain)
            self.schema = _bounded(plain)
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
        try:
            data = load_json(text)
        except ValueError as error:
            repaired = _repair(text)
            if repaired is None:
                raise InvalidOutputError(f"it is not JSON: {error}", text=text) from None
            return Parsed(self._valid(repaired, text), repaired=True)
        return Parsed(self._valid(data, text))

    def revive(self, stored: bytes) -> Any:
        """The value of an answer that was kept as JSON.

        Raises:
            InvalidOutputError: It is not valid any more.
        """
        data = msgspec.json.decode(stored)
        return data if self.schema is None else self._valid(data, "")

    def _valid(self, data: Any, text: str) -> Any:
        if self._adapter is not None:
            try:
                # As JSON, so that what JSON cannot say (a date, a set) is read from what it can.
                return self._adapter.validate_json(json.dumps(data))
            except ValidationError as error:
                raise InvalidOutputError(_sentence(_of_pydantic(error)), text=text) from None
        assert self._validator is not None
        if found := self._validator.problems(data):
            raise InvalidOutputError(_sentence(found), text=text)
        return data


def load_json(text: str) -> Any:
    """Strict JSON: no NaN, no infinity, no key twice.

    Raises:
        ValueError: It is not that; the message is short.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique, parse_float=_finite)
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


def _repair(text: str) -> Any:
    """What broken JSON most likely means, None when nothing."""
    if "{" not in text:
        return None
    import json_repair  # noqa: PLC0415 - wanted only when an engine does not constrain its answers

    try:
        data = json_repair.loads(text[text.index("{") :])
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and data else None


def _of_pydantic(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(str(part) for part in detail["loc"])
        yield f"field {place}: {detail['msg']}" if place else detail["msg"]


def _sentence(problems: Any) -> str:
    listed = list(problems)
    more = f"; and {len(listed) - _MAX_PROBLEMS} more" if len(listed) > _MAX_PROBLEMS else ""
    return "; ".join(listed[:_MAX_PROBLEMS]) + more


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy fit for constrained decoding: bounded strings, no further properties unless they are asked for."""
    bounded = copy.deepcopy(schema)
    for part in _parts(bounded):
        kinds = part.get("type")
        is_text = "string" in (kinds if isinstance(kinds, list) else [kinds])
        if is_text and not {"enum", "const", "format", "pattern"} & set(part):
            part.setdefault("maxLength", MAX_STRING)
        if kinds == "object" and "properties" in part:
            part.setdefault("additionalProperties", False)
    return bounded


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all schemas in it."""
    if isinstance(schema, list):
        for item in schema:
            yield from _parts(item)
    elif isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key in {"properties", "$defs", "definitions", "patternProperties"} and isinstance(value, dict):
                yield from _parts(list(value.values()))
            elif key in {"items", "prefixItems", "anyOf", "oneOf", "allOf", "additionalProperties", "not"}:
                yield from _parts(value)
