"""The tools that a specification may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from aurora_swarm.errors import SpecError, ToolDefinitionError
from aurora_swarm.inputs.files import suggest
from aurora_swarm.tools.definition import Tool

_TOOLS = {tool.name: tool for tool in (Tool.read_file, Tool.list_dir)}


class ToolEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool of a specification, written out.

    Args:
        name: Which one.
        root: The folder that may be read, relative to the specification's.
        max_chars: Characters of a file that the model is shown.
        grants: For a parameter, the only values that it may take, or a template over an agent's input for one.
    """

    name: str
    root: str = "."
    max_chars: int | None = None
    grants: dict[str, str | list[str]] = {}


def tools_of(given: Sequence[str | Mapping[str, Any]], spec: Path) -> tuple[Tool[..., Any], ...]:
    """The tools that a specification names.

    Args:
        given: Names, or what `ToolEntry` says.
        spec: The specification's file.

    Raises:
        SpecError: There is no such tool, or it is not written as it must be.
        ToolDefinitionError: A root or a grant cannot be used.
    """
    return tuple(_tool(item, spec, index) for index, item in enumerate(given))


def _tool(item: str | Mapping[str, Any], spec: Path, index: int) -> Tool[..., Any]:
    field = f"tools[{index}]"
    try:
        entry = ToolEntry(item) if isinstance(item, str) else msgspec.convert(item, ToolEntry)
    except msgspec.ValidationError as error:
        remedy = "write name:, and if wanted root:, max_chars: and grants:"
        raise SpecError(str(error), source=str(spec), field=field, remedy=remedy) from error
    if entry.name not in _TOOLS:
        remedy = suggest(entry.name, _TOOLS)
        raise SpecError(f"there is no tool {entry.name!r}", source=str(spec), field=field, remedy=remedy)
    try:
        tool = _TOOLS[entry.name].beneath(spec.absolute().parent / entry.root, max_chars=entry.max_chars)
        return tool.limit(**entry.grants) if entry.grants else tool
    except ToolDefinitionError as error:
        raise SpecError(error.problem, source=str(spec), field=field, remedy=error.remedy) from error
