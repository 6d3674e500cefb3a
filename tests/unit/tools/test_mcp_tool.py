"""What becomes of a server's list of tools; no server runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from mcp import types

from aurora_swarm.errors import ToolDefinitionError, ToolFailedError, UsageError
from aurora_swarm.tools.definition import ArgumentsRefusedError
from aurora_swarm.tools.mcp import McpServer
from aurora_swarm.tools.mcp.tool import McpTool, effect_of, name_of, text_of, tools_of

SERVER = McpServer(url="https://key:secret@host.example/mcp?token=secret")


async def nobody(name: str, arguments: Mapping[str, Any], *, repeatable: bool) -> types.CallToolResult:
    raise AssertionError("nothing is called here")


def tool(schema: dict[str, Any], name: str = "one") -> McpTool:
    (made,) = tools_of([types.Tool(name=name, input_schema=schema)], SERVER, nobody)
    return made


def test_a_schema_with_references_and_an_old_dialect_is_taken() -> None:
    made = tool(
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "https://host.example/schema",
            "title": "Arguments",
            "type": "object",
            "properties": {"at": {"$ref": "#/definitions/Place"}, "_private": {"type": "string"}},
            "required": ["at"],
            "definitions": {"Place": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}},
        }
    )
    assert made.validated({"at": {"x": 1}}) == {"at": {"x": 1}}
    assert not {"$schema", "$id", "title"} & made.parameters.keys()
    with pytest.raises(ArgumentsRefusedError, match=r"at.x: 'a' is not of type 'integer'"):
        made.validated({"at": {"x": "a"}})


def test_a_tool_without_parameters_takes_none() -> None:
    made = tool({"type": "object"})
    assert made.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert made.validated({}) == {}


def test_a_tool_that_takes_any_property_still_does() -> None:
    made = tool({"type": "object", "additionalProperties": {"type": "integer"}})
    assert made.parameters["additionalProperties"] == {"type": "integer"}
    assert made.validated({"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "https://host.example/schema"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/Missing"}}},
        {"type": "object", "properties": {"a": {"type": "text"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        {"$schema": "https://host.example/dialect", "type": "object"},
    ],
)
def test_a_schema_that_cannot_be_applied_names_the_tool(schema: dict[str, Any]) -> None:
    with pytest.raises(ToolDefinitionError, match=r"host.example/mcp: tool odd") as caught:
        tool(schema, "odd")
    assert "allow" in caught.value.remedy


def test_what_may_be_secret_in_an_address_is_in_no_error() -> None:
    with pytest.raises(ToolDefinitionError) as caught:
        list(tools_of([], McpServer(url=SERVER.url, allow=("x",)), nobody))
    assert "secret" not in str(caught.value)


def test_names_are_made_fit_and_two_of_one_name_are_refused() -> None:
    assert name_of("repo/search.code", "gh_") == "gh_repo_search_code"
    assert name_of("3d", "") == "_3d"
    assert len(name_of("x" * 200, "")) == 64
    twins = [types.Tool(name=name, input_schema={"type": "object"}) for name in ("a.b", "a/b")]
    with pytest.raises(ToolDefinitionError, match="two tools a_b"):
        list(tools_of(twins, SERVER, nobody))


@pytest.mark.parametrize(
    ("hints", "alone", "beside"),
    [
        (None, "effect", "effect"),
        ({"read_only_hint": True}, "pure", "idempotent"),
        ({"idempotent_hint": True}, "idempotent", "idempotent"),
        ({"destructive_hint": False}, "effect", "effect"),
    ],
)
def test_what_a_server_does_not_say_counts_as_an_effect(hints: dict[str, bool] | None, alone: str, beside: str) -> None:
    annotations = types.ToolAnnotations(**hints) if hints else None
    one = types.Tool(name="one", input_schema={"type": "object"}, annotations=annotations)
    assert (effect_of(one, nothing_changes=True), effect_of(one, nothing_changes=False)) == (alone, beside)


def test_every_kind_of_content_becomes_text() -> None:
    parts: list[types.ContentBlock] = [
        types.TextContent(text="words"),
        types.ImageContent(data="AA==", mime_type="image/png"),
        types.AudioContent(data="AA==", mime_type="audio/wav"),
        types.ResourceLink(uri="file:///a", name="a"),
        types.EmbeddedResource(resource=types.TextResourceContents(uri="file:///b", text="inside")),
        types.EmbeddedResource(resource=types.BlobResourceContents(uri="file:///c", blob="AA==")),
    ]
    assert text_of(types.CallToolResult(content=parts)).splitlines() == [
        "words",
        "[image/png, not shown]",
        "[audio/wav, not shown]",
        "[a: file:///a]",
        "inside",
        "[file:///c: bytes, not shown]",
    ]
    assert text_of(types.CallToolResult(content=[], structured_content={"a": 1})) == '{"a":1}'
    with pytest.raises(ToolFailedError, match="does not say why"):
        text_of(types.CallToolResult(content=[], is_error=True))


def test_the_same_tool_of_another_server_is_another_determinant() -> None:
    listed = [types.Tool(name="one", input_schema={"type": "object"})]
    (here,) = tools_of(listed, SERVER, nobody)
    (there,) = tools_of(listed, McpServer(command=("other",)), nobody)
    assert here.determinant() != there.determinant()


def test_a_command_line_is_split_as_a_shell_does() -> None:
    assert McpServer.at("uvx 'my server' --x 1").command == ("uvx", "my server", "--x", "1")
    assert McpServer.at("http://127.0.0.1:1/mcp").url == "http://127.0.0.1:1/mcp"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"command": ("a",), "url": "http://a"},
        {"command": "python server.py"},
        {"url": "ftp://a"},
        {"url": "http://a", "env": {"A": "1"}},
        {"command": ("a",), "headers": {"A": "1"}},
        {"command": ("a",), "timeout_s": 0},
        {"command": ("a",), "max_bytes": -1},
        {"command": ("a",), "effects": {"a": "harmless"}},
    ],
)
def test_a_server_that_cannot_be_is_refused_with_a_remedy(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="McpServer") as caught:
        McpServer(**wrong)
    assert caught.value.remedy
    with pytest.raises(UsageError):
        McpServer.at("'unclosed")
