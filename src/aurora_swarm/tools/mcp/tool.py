"""The tools of an MCP server, as tools that agents may call."""

from __future__ import annotations

import re
import warnings
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from mcp import types
from pydantic import BaseModel, ConfigDict, create_model

from aurora_swarm.errors import SchemaError, ToolDefinitionError, ToolFailedError
from aurora_swarm.inputs.schema import SchemaValidator, check_schema
from aurora_swarm.tools.decoding import fit, nested
from aurora_swarm.tools.definition import ArgumentsRefusedError, Effect, Tool
from aurora_swarm.tools.mcp.server import McpServer

_MAX_PROBLEMS = 3
_ONLY_FOR_PEOPLE = ("$schema", "$id", "title", "description")


class CallServer(Protocol):
    """Calls a tool of a server."""

    async def __call__(self, name: str, arguments: Mapping[str, Any], *, repeatable: bool) -> types.CallToolResult:
        """The server's answer; raises `ToolFailedError`."""
        ...


class McpTool(Tool[..., Coroutine[Any, Any, str]]):
    """A tool of an MCP server. Made by `open_mcp`.

    Its arguments are checked by the server's own JSON schema before they are sent; nothing that the schema refers to
    is fetched.

    Args:
        listed: As the server lists it.
        server: The server.
        effect: Its effect class.
        call: Calls it.

    Raises:
        ToolDefinitionError: Its schema cannot be used.
    """

    def __init__(self, listed: types.Tool, server: McpServer, effect: Effect, call: CallServer) -> None:
        async def function(**arguments: Any) -> str:
            return text_of(await call(listed.name, arguments, repeatable=effect != "effect"))

        self._input = {key: part for key, part in listed.input_schema.items() if key != "$id"}
        _check(self._input, f"{server.place}: tool {listed.name}")
        self._validator = SchemaValidator(self._input)
        self._server = server.url or list(server.command)
        super().__init__(
            function,
            name=name_of(listed.name, server.prefix),
            description=(listed.description or listed.title or listed.name).strip(),
            arguments=_fields_of(self._input),
            effect=effect,
            timeout_s=server.timeout_s,
            max_chars=server.max_chars,
        )
        self.parameters = self._ungranted = _offered(self._input)

    def validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments for the server from what a model gave, unchanged.

        Raises:
            ArgumentsRefusedError: The server's schema does not allow them, or they are not granted.
        """
        values = dict(arguments)
        if found := self._validator.problems(values):
            raise ArgumentsRefusedError("; ".join(found[:_MAX_PROBLEMS]))
        for name, granted in self.grants.items():
            # What is left out would be the server's choice, and a template that nobody filled in grants nothing.
            if isinstance(granted, str) or name not in values or str(values[name]) not in granted:
                allowed = "none" if isinstance(granted, str) else ", ".join(granted)
                raise ArgumentsRefusedError(f"{name} must be one of: {allowed}")
        return values

    def determinant(self) -> bytes:
        """What determines an answer; the server too, because the same tool of another one answers otherwise."""
        return super().determinant() + msgspec.json.encode(self._server)


def tools_of(listed: Sequence[types.Tool], server: McpServer, call: CallServer) -> Iterator[McpTool]:
    """The tools of a server that are offered, in its order.

    Args:
        listed: All that it has.
        server: Says which are allowed, and what is known of their effects.
        call: Calls one.

    Raises:
        ToolDefinitionError: One that is asked for does not exist, one cannot be offered, or two get one name.
    """
    known = [tool.name for tool in listed]
    for name in (*(server.allow or ()), *server.effects):
        if name not in known:
            has = ", ".join(known) or "none"
            raise ToolDefinitionError(f"{server.place} has no tool {name!r}", remedy=f"it has: {has}")
    offered = [tool for tool in listed if server.allow is None or tool.name in server.allow]
    nothing_changes = all(_is_read_only(tool) for tool in offered)
    names: set[str] = set()
    for tool in offered:
        effect = server.effects.get(tool.name) or effect_of(tool, nothing_changes=nothing_changes)
        made = McpTool(tool, server, effect, call)
        if made.name in names:
            raise ToolDefinitionError(f"{server.place} has two tools {made.name}", remedy="choose one with allow=(...)")
        names.add(made.name)
        yield made


def effect_of(tool: types.Tool, *, nothing_changes: bool) -> Effect:
    """The effect class by the server's own hints; what it does not say counts as an effect.

    Args:
        tool: As the server lists it.
        nothing_changes: Whether all tools that are offered beside it only read. Else an answer of a reading tool may
            be old as soon as another one has written, so it is not shared between agents.
    """
    if _is_read_only(tool):
        return "pure" if nothing_changes else "idempotent"
    return "idempotent" if tool.annotations and tool.annotations.idempotent_hint else "effect"


def name_of(name: str, prefix: str) -> str:
    """A server's name for a tool as one that every wire takes: letters, digits, ``_`` and ``-``, 64 at most."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", prefix + name)
    return (plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}")[:64]


def text_of(result: types.CallToolResult) -> str:
    """What a server answered, as text for a model; of pictures and sounds only that they are there.

    Raises:
        ToolFailedError: The server says that the call failed.
    """
    text = "\n".join(_shown(part) for part in result.content)
    if result.is_error:
        raise ToolFailedError(text or "the server does not say why")
    if not result.content and result.structured_content is not None:
        return msgspec.json.encode(result.structured_content).decode()
    return text


def _shown(part: types.ContentBlock) -> str:
    match part:
        case types.TextContent(text=text):
            return text
        case types.EmbeddedResource(resource=types.TextResourceContents(text=text)):
            return text
        case types.EmbeddedResource(resource=resource):
            return f"[{resource.uri}: {resource.mime_type or 'bytes'}, not shown]"
        case types.ResourceLink(uri=uri, name=name):
            return f"[{name}: {uri}]"
        case types.ImageContent() | types.AudioContent():
            return f"[{part.mime_type}, not shown]"


def _is_read_only(tool: types.Tool) -> bool:
    return bool(tool.annotations and tool.annotations.read_only_hint)


def _check(schema: Mapping[str, Any], where: str) -> None:
    """Refuse a schema that arguments could not be held to."""
    own = {key: part for key, part in schema.items() if key != "$schema"}
    part, definitions = nested(own, "arguments")
    whole: dict[str, Any] = {"type": "object", "properties": {"arguments": part}, "$defs": definitions}
    if "$schema" in schema:
        whole["$schema"] = schema["$schema"]
    try:
        check_schema(whole, where)
    except SchemaError as error:
        raise ToolDefinitionError(str(error), remedy="leave the tool out: name those that you want in allow") from None


def _fields_of(schema: Mapping[str, Any]) -> type[BaseModel]:
    """The names of the parameters, for `Tool.limit`; what they may be is the schema's business."""
    names = [name for name in schema.get("properties", {}) if name.isidentifier() and not name.startswith("_")]
    fields: dict[str, Any] = dict.fromkeys(names, (Any, None))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Field name .* shadows", category=UserWarning)
        return create_model("Arguments", __config__=ConfigDict(extra="allow", protected_namespaces=()), **fields)


def _offered(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is held to: the server's schema, fit for constrained decoding."""
    shown = fit({key: part for key, part in schema.items() if key not in _ONLY_FOR_PEOPLE})
    offered: dict[str, Any] = {"type": "object", "properties": {}, **shown}
    if offered.keys() == {"type", "properties"} and not offered["properties"]:
        offered["additionalProperties"] = False
    return offered
