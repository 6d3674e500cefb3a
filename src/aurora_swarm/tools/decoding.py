"""JSON schemas made fit for constrained decoding. Pure.

An engine turns the schema into a grammar and lets the model pick only tokens that it allows. What the grammar leaves
open, a small model fills for ever; so what may be closed is closed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MAX_LENGTH = 2000
"""Characters that a string may have where its schema does not say."""

_ONE = frozenset({"additionalProperties", "contains", "items", "propertyNames"})
_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_MAP = frozenset({"$defs", "definitions", "patternProperties", "properties"})
_LEFT_OPEN = frozenset({"$ref", "additionalProperties", "allOf", "anyOf", "oneOf", "patternProperties", "if"})
_BOUNDED = frozenset({"const", "enum", "maxLength", "pattern"})

Change = Callable[[dict[str, Any], bool], dict[str, Any]]


def fit(schema: Mapping[str, Any], max_length: int = MAX_LENGTH) -> dict[str, Any]:
    """A schema that allows no endless string and no property that it does not name.

    Strings get a `maxLength` unless something bounds them already; objects with properties get
    ``additionalProperties: false`` unless they say otherwise; titles, which only people read, go. What is required
    stays as it is, because a model that must fill an optional field invents its content.

    Args:
        schema: As pydantic or a user wrote it; not changed.
        max_length: Characters per string.

    Returns:
        A new schema. Everything that it allows, the given one allows too.
    """

    def change(part: dict[str, Any], may_close: bool) -> dict[str, Any]:
        if isinstance(part.get("title"), str):
            del part["title"]
        if _has_type(part, "string") and not _BOUNDED & part.keys():
            part["maxLength"] = max(max_length, _least_length(part))
        if may_close and part.get("properties") and not _LEFT_OPEN & part.keys():
            part["additionalProperties"] = False
        return part

    return _rewritten(schema, change)


def nested(schema: Mapping[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema as part of another one, with its references still leading where they led.

    Args:
        schema: A whole schema; its references are local.
        name: Unique among the parts.

    Returns:
        What to put in its place, and what to add to the ``$defs`` of the root; usually nothing.
    """
    place = f"#/$defs/{name}"
    references = 0

    def change(part: dict[str, Any], _may_close: bool) -> dict[str, Any]:
        nonlocal references
        reference = part.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            references += 1
            part["$ref"] = place + reference[1:]
        return part

    moved = _rewritten(schema, change)
    return ({"$ref": place}, {name: moved}) if references else (moved, {})


def _rewritten(schema: Mapping[str, Any], change: Change, may_close: bool = True) -> dict[str, Any]:
    """A copy with every subschema changed; ``not`` and conditions stay, where closing would turn into opening."""

    def inner(key: str, part: Any) -> Any:
        return _rewritten(part, change, may_close and key != "allOf") if isinstance(part, Mapping) else part

    copy: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _ONE:
            copy[key] = inner(key, value)
        elif key in _LIST and isinstance(value, list):
            copy[key] = [inner(key, part) for part in value]
        elif key in _MAP and isinstance(value, Mapping):
            copy[key] = {name: inner(key, part) for name, part in value.items()}
        else:
            copy[key] = value
    return change(copy, may_close)


def _has_type(schema: Mapping[str, Any], word: str) -> bool:
    kind = schema.get("type")
    return kind == word or (isinstance(kind, list) and word in kind)


def _least_length(schema: Mapping[str, Any]) -> int:
    least = schema.get("minLength", 0)
    return least if isinstance(least, int) else 0
