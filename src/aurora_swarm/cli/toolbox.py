"""The tools that a specification may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from aurora_swarm.errors import SpecError, ToolDefinitionError
from aurora_swarm.inputs.files import suggest
from aurora_swarm.tools.definition import AnyTool, Tool


class ToolEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool of a specification, written out; each tool may have more to say.

    Args:
        name: Which one.
        max_chars: Characters of an answer that the model is shown.
        max_tokens: Tokens of an answer that the model is shown.
        grants: For a parameter, the only values that it may take, or a template over an agent's input for one.
    """

    name: str
    max_chars: int | None = None
    max_tokens: int | None = None
    grants: dict[str, str | list[str]] = {}

    def made(self, folder: Path) -> AnyTool:
        """The tool; `folder` is the specification's.

        Raises:
            ToolDefinitionError: It cannot be made as the entry says.
        """
        raise NotImplementedError


class FileEntry(ToolEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``read_file`` or ``list_dir``.

    Args:
        root: The folder that may be read, relative to the specification's.
    """

    root: str = "."

    def made(self, folder: Path) -> AnyTool:
        """The tool, beneath its root."""
        tool = Tool.read_file if self.name == "read_file" else Tool.list_dir
        return tool.beneath(folder / self.root)


class HttpGetEntry(ToolEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``http_get``.

    Args:
        allow: Hosts that may be reached although they are not on the public internet, ``host`` or ``host:port``.
        only: The only hosts on the public internet that may be reached; None for all.
    """

    allow: list[str] = []
    only: list[str] | None = None

    def made(self, folder: Path) -> AnyTool:
        """The tool, with what it may reach."""
        del folder
        tool = Tool.http_get.allow(*self.allow)
        return tool if self.only is None else tool.only(*self.only)


class SearchEntry(ToolEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``web_search``. Its keys come from the environment.

    Args:
        endpoint: A search endpoint of yours, with ``{query}`` in it; None for whom the environment names.
        provider: ``brave`` or ``serpapi``; None for whom the environment names.
        results: Results that the model is shown.
        rate_limit: Searches per second at most.
    """

    endpoint: str | None = None
    provider: str | None = None
    results: int = 5
    rate_limit: float | None = None

    def made(self, folder: Path) -> AnyTool:
        """The tool, with whom it asks."""
        del folder
        if self.endpoint is not None and self.provider is not None:
            raise ToolDefinitionError("web_search has an endpoint and a provider", remedy="name one of them")
        if self.endpoint is not None:
            return Tool.web_search.on(self.endpoint, results=self.results, rate_limit=self.rate_limit)
        if self.provider is not None:
            return Tool.web_search.using(self.provider, results=self.results, rate_limit=self.rate_limit)
        return Tool.web_search.asking(results=self.results, rate_limit=self.rate_limit)


class SqlEntry(ToolEntry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``sql_query``.

    Args:
        database: The SQLite file, relative to the specification's folder, or its ``sqlite:///`` address.
        tables: Tables and views that may be read; None for all.
        max_rows: Rows that the model is shown.
        timeout: Seconds for a query.
        called: What the model calls it, for when there are several.
    """

    database: str = ""
    tables: list[str] | None = None
    max_rows: int = 100
    timeout: float = 10.0
    called: str = "sql_query"

    def made(self, folder: Path) -> AnyTool:
        """The tool, with its database."""
        if not self.database:
            raise ToolDefinitionError("sql_query has no database", remedy="write database: genes.db")
        # An address of another kind is refused where addresses are read.
        path = self.database.removeprefix("sqlite:///")
        url = self.database if "://" in path else f"sqlite:///{folder / path}"
        return Tool.sql_query.on(
            url, tables=self.tables, max_rows=self.max_rows, timeout=self.timeout, name=self.called
        )


_ENTRIES: dict[str, type[ToolEntry]] = {
    "read_file": FileEntry,
    "list_dir": FileEntry,
    "http_get": HttpGetEntry,
    "web_search": SearchEntry,
    "sql_query": SqlEntry,
}


def tools_of(given: Sequence[str | Mapping[str, Any]], spec: Path) -> tuple[AnyTool, ...]:
    """The tools that a specification names.

    Args:
        given: Names, or what the entry of that tool says (`FileEntry`, `HttpGetEntry` and so on).
        spec: The specification's file.

    Raises:
        SpecError: There is no such tool, it is not written as it must be, or it cannot be made so.
    """
    return tuple(_tool(item, spec, index) for index, item in enumerate(given))


def _tool(item: str | Mapping[str, Any], spec: Path, index: int) -> AnyTool:
    field = f"tools[{index}]"
    given = {"name": item} if isinstance(item, str) else item
    name = given.get("name")
    kind = _ENTRIES.get(name) if isinstance(name, str) else None
    if kind is None:
        problem = f"there is no tool {name!r}" if name is not None else "it has no name"
        raise SpecError(problem, source=str(spec), field=field, remedy=suggest(str(name), _ENTRIES))
    try:
        entry = msgspec.convert(given, kind)
        tool = entry.made(spec.absolute().parent).showing(max_chars=entry.max_chars, max_tokens=entry.max_tokens)
        return tool.limit(**entry.grants) if entry.grants else tool
    except msgspec.ValidationError as error:
        remedy = f"{name} takes {', '.join(kind.__struct_fields__)}"
        raise SpecError(str(error), source=str(spec), field=field, remedy=remedy) from error
    except ToolDefinitionError as error:
        raise SpecError(error.problem, source=str(spec), field=field, remedy=error.remedy) from error
