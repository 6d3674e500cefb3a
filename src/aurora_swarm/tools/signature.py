"""From a typed function to the schema of what it may be called with."""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError

from aurora_swarm.errors import ToolDefinitionError
from aurora_swarm.tools.decoding import fit

Grant = str | Sequence[str]

_LISTS = (list, collections.abc.Sequence, collections.abc.Collection, collections.abc.Iterable)


class Offer(msgspec.Struct, frozen=True):
    """What a function looks like to a model.

    Args:
        description: What it does.
        arguments: Pydantic model of its parameters.
        keys: Of a function that looks up many keys at once, the name of its list of keys; empty otherwise.
    """

    description: str
    arguments: type[BaseModel]
    keys: str = ""


def offer_of(function: Callable[..., Any]) -> Offer:
    """A function as a model is offered it, from its annotations and its docstring.

    Raises:
        ToolDefinitionError: A parameter cannot be offered; function and parameter are named.
    """
    where = _where(function)
    summary, described = read_docstring(function)
    return Offer(summary, _model(where, _fields(function, where, described)))


def lookup_of(function: Callable[..., Any], key: str | None) -> Offer:
    """A function that looks up a list of keys, as a model is offered it: with one key in place of the list.

    Args:
        function: Its first parameter is a list; further ones are offered as they are.
        key: What the model calls the key; the list's own name when None.

    Raises:
        ToolDefinitionError: It takes no list first, or a parameter cannot be offered.
    """
    where = _where(function)
    summary, described = read_docstring(function)
    fields = _fields(function, where, described)
    remedy = "take a list of keys first, for example symbols: list[str]"
    if not fields:
        raise ToolDefinitionError(f"{where} takes no keys", remedy=remedy)
    keys, (annotation, field) = next(iter(fields.items()))
    element = typing.get_args(annotation)
    if typing.get_origin(annotation) not in _LISTS or len(element) != 1:
        raise ToolDefinitionError(f"{where}: {keys} is no list of keys", remedy=remedy)
    name = key or keys
    if not name.isidentifier() or name.startswith("_") or (name != keys and name in fields):
        raise ToolDefinitionError(f"{where}: {name!r} cannot be the name of its key", remedy="give another name")
    del fields[keys]
    one = {name: (element[0], Field(..., description=field.description)), **fields}
    return Offer(summary, _model(where, one), keys)


def schema_of(arguments: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, fit for constrained decoding."""
    schema = {"properties": {}, **fit(arguments.model_json_schema()), "additionalProperties": False}
    schema.pop("description", None)
    return schema


def with_grants(schema: Mapping[str, Any], grants: Mapping[str, Grant]) -> dict[str, Any]:
    """A schema whose granted parameters take the granted values only; what is left open is shared, not copied."""
    properties = dict(schema["properties"])
    for name, grant in grants.items():
        if name in properties and not isinstance(grant, str):
            part = properties[name]
            described = {"description": part["description"]} if "description" in part else {}
            properties[name] = {"enum": list(grant), **described}
    return {**schema, "properties": properties}


def read_docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The summary of a Google-style docstring, and what its ``Args`` say."""
    text = inspect.getdoc(function) or ""
    body, _, rest = text.partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    entries = re.findall(r"^ {4}(\w+)[^:\n]*:[ ]*(.*(?:\n {5,}.*)*)", section, flags=re.MULTILINE)
    summary = re.split(r"\n(?:Returns|Raises|Yields):\n", body)[0].strip()
    return summary, {name: " ".join(said.split()) for name, said in entries}


def _where(function: Callable[..., Any]) -> str:
    where = str(getattr(function, "__qualname__", repr(function)))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ToolDefinitionError(f"{where} is a generator", remedy="return one value")
    return where


def _fields(function: Callable[..., Any], where: str, described: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolDefinitionError(f"{where}: an annotation cannot be read: {error}") from error
    fields: dict[str, tuple[Any, Any]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        _check_parameter(where, parameter, hints)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints[name], Field(default, description=described.get(name)))
    return fields


def _model(where: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    try:
        with warnings.catch_warnings():
            # A parameter may be called `schema` or `copy`; nobody calls the methods that it hides.
            warnings.filterwarnings("ignore", message="Field name .* shadows", category=UserWarning)
            return create_model(where, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
    except (PydanticUserError, NameError) as error:
        first = str(error).splitlines()[0]
        raise ToolDefinitionError(f"{where}: {first}", remedy="use types that JSON has, or pydantic models") from error


def _check_parameter(where: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> None:
    name = parameter.name
    if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
        raise ToolDefinitionError(f"{where}: *{name} cannot be offered", remedy="name each parameter")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ToolDefinitionError(f"{where}: {name} is positional-only", remedy="remove the / from the signature")
    if name not in hints:
        raise ToolDefinitionError(f"{where}: {name} has no type", remedy=f"annotate it, for example {name}: str")
    if name.startswith("_"):
        raise ToolDefinitionError(f"{where}: {name} begins with an underscore", remedy="rename it")
