"""What the wires of hosted providers share: whole conversations in their form, schemas that they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from aurora_swarm.values.message import Message

DEFAULT_MAX_TOKENS = 8_192
"""Tokens to generate at most where nobody says and the provider insists on a number.

Every model that Anthropic serves takes it; larger ones are refused by the smaller models.
"""

_KEPT_FORMATS = frozenset(("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"))
_KEPT = frozenset(("$ref", "anyOf", "allOf", "const", "default", "description", "enum", "title", "type"))
_OF_SCHEMAS = ("$defs", "definitions", "properties")


def split_system(messages: Sequence[Message]) -> tuple[list[str], list[Message]]:
    """The system's texts, and the rest of the conversation in its order."""
    system = [message.content for message in messages if message.role == "system"]
    return system, [message for message in messages if message.role != "system"]


def constrainable(schema: msgspec.Raw) -> dict[str, Any] | None:
    """A schema in the subset that Anthropic constrains answers to.

    Objects are closed, ``oneOf`` becomes ``anyOf``, and keywords that it refuses (lengths, bounds, patterns) move into
    the description, where the model may heed them. It is looser than the schema given: answers are validated against
    that one.
    Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs

    Returns:
        None where there is no such subset: with objects whose keys are free, and with definitions within themselves.
    """
    value = msgspec.json.decode(schema)
    if not isinstance(value, dict) or _has_free_keys(value) or _is_recursive(value):
        return None
    return _narrowed(value)


def _has_free_keys(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_free_keys, value))
    if not isinstance(value, dict):
        return False
    if value.get("type") == "object" and not value.get("properties") and value.get("additionalProperties") is not False:
        return True
    return any(map(_has_free_keys, value.values()))


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    named = {f"#/{kind}/{name}": part for kind in _OF_SCHEMAS[:2] for name, part in schema.get(kind, {}).items()}
    reached = {name: set(_references(part)) for name, part in named.items()}
    for _ in named:  # as many steps as a way through all of them has
        reached = {name: to.union(*(reached.get(each, ()) for each in to)) for name, to in reached.items()}
    return "#" in _references(schema) or any(name in to for name, to in reached.items())


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _references(part)


def _narrowed(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    dropped: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "oneOf":
            kept["anyOf"] = _each(value)
        elif key in {"anyOf", "allOf"}:
            kept[key] = _each(value)
        elif key in _OF_SCHEMAS and isinstance(value, Mapping):
            kept[key] = {name: _sub(part) for name, part in value.items()}
        elif key == "items":
            kept[key] = _sub(value)
        elif key in _KEPT or _is_kept(key, value):
            kept[key] = value
        elif key not in {"additionalProperties", "$schema", "discriminator"}:
            dropped[key] = value
    if schema.get("type") == "object" or "properties" in schema:
        kept["additionalProperties"] = False
    if dropped:
        told = ", ".join(f"{key}: {msgspec.json.encode(value).decode()}" for key, value in dropped.items())
        kept["description"] = f"{kept.get('description', '')} ({told})".strip()
    return kept


def _is_kept(key: str, value: Any) -> bool:
    return key == "required" or (key == "format" and value in _KEPT_FORMATS) or (key == "minItems" and value in (0, 1))


def _each(value: Any) -> list[Any]:
    return [_sub(part) for part in value]


def _sub(value: Any) -> Any:
    return _narrowed(value) if isinstance(value, Mapping) else value
