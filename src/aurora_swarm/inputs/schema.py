"""JSON schemas for answers: checked before the run for what the run relies on, then applied to answers.

A usable schema describes an object with named properties, because answers are records. References
stay within the schema (``#`` or ``#/$defs/Name``): nothing is ever fetched.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote

import jsonschema
import referencing
from jsonschema.exceptions import ValidationError, best_match
from referencing.exceptions import Unresolvable

from aurora_swarm.errors import SchemaError
from aurora_swarm.inputs.documents import Document, Trail, dotted, load_document
from aurora_swarm.inputs.files import StrPath, describe, show, suggest

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_ONE = frozenset(
    {"additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then"}
    | {"unevaluatedItems", "unevaluatedProperties"}
)
_LIST = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
_MAP = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
_SAME_VALUE = frozenset({"allOf", "anyOf", "dependentSchemas", "else", "if", "not", "oneOf", "then"})
_SYNONYMS = {"bool": "boolean", "dict": "object", "float": "number", "int": "integer", "list": "array", "str": "string"}
_MAX_PROBLEMS = 20
_MAX_PROBLEM_CHARS = 300


def load_schema(path: StrPath) -> dict[str, Any]:
    """Read a JSON schema from a ``.json``, ``.yaml`` or ``.yml`` file, checked as by `check_schema`.

    Raises:
        SchemaError: The file cannot be read, is malformed, or holds no usable schema; every flaw is listed
            with its field, line and column.
    """
    document = load_document(path, SchemaError, (".json", ".yaml", ".yml"))
    check_document(document, ())
    schema: dict[str, Any] = document.data
    return schema


def check_schema(schema: object, source: str = "output_schema") -> None:
    """Make sure that a schema can be used.

    Args:
        schema: The schema, as plain data.
        source: What errors call it.

    Raises:
        SchemaError: It describes no object with properties, uses an unknown type, requires a property that it
            does not have, has an empty enum, or refers to something that is not there or elsewhere; every
            flaw is listed with its field.
    """
    check_document(Document(source, schema, dict), ())


def check_document(document: Document, trail: Trail) -> None:
    """Like `check_schema`, for a schema that stands in a document.

    Args:
        document: The document.
        trail: Where the schema stands in it.

    Raises:
        SchemaError: As in `check_schema`.
    """
    schema = document.data
    for part in trail:
        schema = schema[part]
    try:
        flaws = list(_flaws(schema))
    except RecursionError:
        flaws = [_Flaw((), "nested too deeply", "use fewer levels, or references")]
    if flaws:
        errors = [document.error(SchemaError, (*trail, *flaw.trail), flaw.problem, flaw.remedy) for flaw in flaws]
        raise SchemaError.all_of(errors)


def problems(schema: dict[str, Any], value: object) -> list[str]:
    """What is wrong with an answer; `SchemaValidator` is quicker for many answers.

    Args:
        schema: A schema that `check_schema` accepts.
        value: The answer, as decoded from JSON.

    Returns:
        A sentence per problem, in the order of places, 20 at most; empty when the answer is valid.

    Raises:
        SchemaError: The schema turns out to be unusable.
    """
    return SchemaValidator(schema).problems(value)


class SchemaValidator:
    """Applies one schema to many answers.

    Args:
        schema: A schema that `check_schema` accepts.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        kind = _dialect(schema)
        # A registry of our own: the default one would fetch what a reference names.
        self._validator = kind(schema, registry=referencing.Registry(), format_checker=kind.FORMAT_CHECKER)

    def problems(self, value: object) -> list[str]:
        """What is wrong with an answer, as in the function `problems`."""
        try:
            found = sorted(itertools.islice(self._validator.iter_errors(value), _MAX_PROBLEMS), key=_place)
        except Unresolvable as exc:
            raise SchemaError(f"a reference leads nowhere: {exc}", remedy="refer to #/$defs/Name") from exc
        except RecursionError:
            return ["the answer is nested too deeply"]
        return [_sentence(best_match([error])) for error in found]


def _dialect(schema: dict[str, Any]) -> Any:
    return jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)


def _place(error: ValidationError) -> str:
    return dotted(tuple(error.absolute_path))


def _sentence(error: ValidationError) -> str:
    place = _place(error)
    return f"{place}: {_message(error)}" if place else _message(error)


def _message(error: ValidationError) -> str:
    """The library's message, unless it quotes a value of any size."""
    if len(error.message) <= _MAX_PROBLEM_CHARS:
        return error.message
    return f"{describe(error.instance)} does not meet {error.validator}: {describe(error.validator_value)}"


class _Flaw(NamedTuple):
    trail: Trail
    problem: str
    remedy: str


def _flaws(schema: object) -> Iterator[_Flaw]:
    if not isinstance(schema, dict):
        yield _Flaw((), f"expected a schema, found {describe(schema)}", 'write {"type": "object", "properties": {...}}')
        return
    parts = list(_parts(schema, ()))
    own = [flaw for trail, part in parts for flaw in _flaws_of_part(part, trail)]
    own = own or list(_flaws_of_references(schema, parts)) or list(_flaws_of_root(schema))
    yield from own or _flaws_of_metaschema(schema)


def _flaws_of_root(schema: dict[str, Any]) -> Iterator[_Flaw]:
    """An answer is a record: the root, or what it refers to, is an object with properties."""
    root: Any = schema
    while isinstance(root, dict) and "$ref" in root and "type" not in root:
        root = _resolve(schema, root["$ref"])
    if not isinstance(root, dict) or root.get("type") != "object":
        remedy = 'add "type": "object"; to get another type, make it a property'
        yield _Flaw((), "the schema does not describe an object", remedy)
    elif not root.get("properties"):
        yield _Flaw((), "the object has no properties", "name under properties what an answer consists of")


def _parts(schema: object, trail: Trail) -> Iterator[tuple[Trail, Any]]:
    """A schema and all schemas within it, each with its trail."""
    yield trail, schema
    if isinstance(schema, dict):
        for inner, part in _subschemas(schema):
            yield from _parts(part, (*trail, *inner))


def _subschemas(schema: dict[str, Any]) -> Iterator[tuple[Trail, Any]]:
    for key, value in schema.items():
        if key in _LIST and isinstance(value, list):
            yield from (((key, index), part) for index, part in enumerate(value))
        elif key in _MAP and isinstance(value, dict):
            yield from (((key, name), part) for name, part in value.items())
        elif key in _ONE:
            yield (key,), value


def _flaws_of_part(schema: object, trail: Trail) -> Iterator[_Flaw]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield _Flaw(trail, f"expected a schema, found {describe(schema)}", "write an object, true or false")
        return
    for key in ("$dynamicRef", "$recursiveRef", *(["$id"] if trail else [])):
        if key in schema:
            yield _Flaw((*trail, key), f"{key} is not supported here", "refer with $ref: #/$defs/Name")
    yield from _flaws_of_type(schema, trail)
    yield from _flaws_of_required(schema, trail)
    if schema.get("enum") == []:
        yield _Flaw((*trail, "enum"), "no value is allowed", "list the allowed values, or leave enum out")


def _flaws_of_references(root: dict[str, Any], parts: list[tuple[Trail, Any]]) -> Iterator[_Flaw]:
    known = {id(part) for _, part in parts}
    for trail, part in parts:
        if not isinstance(part, dict) or "$ref" not in part:
            continue
        reference, place = part["$ref"], (*trail, "$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            found = show(reference) if isinstance(reference, str) else describe(reference)
            remedy = "copy what it names under $defs, and refer to #/$defs/Name"
            yield _Flaw(place, f"{found} leads out of this schema, and nothing is fetched", remedy)
        elif id(_resolve(root, reference)) not in known:
            names = [f"#/{kind}/{name}" for kind in ("$defs", "definitions") for name in _mapping(root, kind)]
            remedy = suggest(reference, names) or "add it under $defs"
            yield _Flaw(place, f"{show(reference)} does not lead to a schema", remedy)
        elif _leads_back(root, part):
            problem = f"{show(reference)} leads back to itself without a step into the answer"
            yield _Flaw(place, problem, "refer to itself below properties or items only")


def _mapping(schema: dict[str, Any], key: str) -> dict[str, Any]:
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def _resolve(root: dict[str, Any], reference: str) -> Any:
    """What a local reference (a JSON pointer in a fragment) leads to; None when it leads nowhere."""
    target: Any = root
    pointer = unquote(reference[1:])
    if pointer and not pointer.startswith("/"):
        return None
    for step in pointer.split("/")[1:]:
        part = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", part) and int(part) < len(target):
            target = target[int(part)]
        elif isinstance(target, dict) and part in target:
            target = target[part]
        else:
            return None
    return target


def _leads_back(root: dict[str, Any], start: dict[str, Any]) -> bool:
    """Whether validating one value by `start` comes to validate the same value by `start` again."""
    seen: set[int] = set()
    pending = list(_in_place(root, start))
    while pending:
        schema = pending.pop()
        if schema is start:
            return True
        if isinstance(schema, dict) and id(schema) not in seen:
            seen.add(id(schema))
            pending += _in_place(root, schema)
    return False


def _in_place(root: dict[str, Any], schema: dict[str, Any]) -> Iterator[Any]:
    """The schemas that are applied to the same value as this one."""
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        yield _resolve(root, reference)
    for inner, part in _subschemas(schema):
        if inner[0] in _SAME_VALUE:
            yield part


def _flaws_of_type(schema: dict[str, Any], trail: Trail) -> Iterator[_Flaw]:
    if "type" not in schema:
        return
    words = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    for word in words:
        if word not in _TYPES:
            found = show(word) if isinstance(word, str) else describe(word)
            remedy = suggest(_SYNONYMS.get(word, word) if isinstance(word, str) else "", _TYPES)
            yield _Flaw((*trail, "type"), f"{found} is not a type", remedy)


def _flaws_of_required(schema: dict[str, Any], trail: Trail) -> Iterator[_Flaw]:
    """Names that are required and not described: where properties are listed, that is a slip of the pen."""
    required, properties = schema.get("required"), schema.get("properties")
    open_ended = any(key in schema for key in ("patternProperties", "$ref", "allOf", "anyOf", "oneOf"))
    open_ended = open_ended or isinstance(schema.get("additionalProperties"), dict)
    if open_ended or not isinstance(required, list) or not isinstance(properties, dict):
        return
    for index, name in enumerate(required):
        if isinstance(name, str) and name not in properties:
            remedy = suggest(name, properties) or "describe it under properties"
            yield _Flaw((*trail, "required", index), f"{show(name)} is not among the properties", remedy)


def _flaws_of_metaschema(schema: dict[str, Any]) -> Iterator[_Flaw]:
    dialect = schema.get("$schema", "")
    kind = _dialect(schema) if isinstance(dialect, str) else None
    if kind is None or (dialect and kind.META_SCHEMA.get("$schema", "").rstrip("#") != dialect.rstrip("#")):
        found = show(dialect) if isinstance(dialect, str) else describe(dialect)
        remedy = "leave it out, or write https://json-schema.org/draft/2020-12/schema"
        yield _Flaw(("$schema",), f"{found} is not a known dialect", remedy)
        return
    for error in kind(kind.META_SCHEMA, format_checker=kind.FORMAT_CHECKER).iter_errors(schema):
        leaf = best_match([error])
        yield _Flaw(tuple(leaf.absolute_path), _message(leaf), "see the rules of JSON Schema")
