"""The tool that reads a database: `Tool.sql_query`."""

from __future__ import annotations

import copy
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.errors import ToolDefinitionError
from aurora_swarm.tools.definition import Tool
from aurora_swarm.tools.sqlite import Database, QueryLimits, run_query, tables_of
from aurora_swarm.tools.stamps import stamp_of, state_of

_TIMEOUT_S = 10.0
_MAX_DESCRIPTION_CHARS = 4000
_HOW = "say which database: Tool.sql_query.on('sqlite:///genes.db')"


class QueryArguments(BaseModel):
    """Parameters of ``sql_query``."""

    model_config = ConfigDict(extra="forbid")
    query: str = Field(description="One SELECT statement of SQLite, with ? for each value.", max_length=4000)
    parameters: list[str | int | float | None] = Field(
        default_factory=list, description="The value of each ?, in their order.", max_length=100
    )


class SqlTool(Tool[..., str]):
    """A tool that reads a database. Use copies that `on` makes.

    Every query has a connection of its own, opened read-only, that can do nothing but read the tables that were
    granted, within its time and its rows. Values are passed as parameters.

    Args:
        database: Which; None for none, which can be named but not used.
        max_rows: Rows that the model is shown.
        timeout_s: Seconds for a query.
    """

    def __init__(self, database: Database | None = None, *, max_rows: int = 100, timeout_s: float = _TIMEOUT_S) -> None:
        super().__init__(
            run_query,
            name="sql_query",
            description=_described(database),
            arguments=QueryArguments,
            effect="pure",
            # The query ends itself; this is for a file system that does not answer.
            timeout_s=timeout_s + 2.0,
        )
        if max_rows < 1 or not timeout_s > 0:
            raise ToolDefinitionError("sql_query: max_rows and timeout must be above 0")
        self._database = database
        self._limits = QueryLimits(max_rows=max_rows, timeout_s=timeout_s)

    def on(
        self,
        url: str,
        *,
        tables: Sequence[str] | None = None,
        max_rows: int = 100,
        timeout: float = _TIMEOUT_S,
        name: str = "sql_query",
    ) -> Self:
        """A copy that reads a database. Its tables and columns are told to the model.

        Args:
            url: ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.
            tables: Tables and views that may be read; None for all. A view needs the tables that it reads, too.
            max_rows: Rows that the model is shown.
            timeout: Seconds for a query.
            name: What the model calls it, for when there are several.

        Raises:
            ToolDefinitionError: It is no SQLite database, it cannot be read, or it lacks a table.
        """
        database = Database(_path_of(url), None if tables is None else frozenset(tables))
        made = type(self)(database, max_rows=max_rows, timeout_s=timeout)
        copied = copy.copy(made)
        copied.name = name
        return copied.showing(max_chars=self.max_chars, max_tokens=self.max_tokens)

    def call_arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The model's query, and where and how it is run.

        Raises:
            ToolDefinitionError: Nobody said which database.
        """
        arguments = {**values, "database": self._known(), "limits": self._limits, "max_chars": self.max_chars}
        arguments["parameters"] = tuple(arguments["parameters"])
        return arguments

    def identity(self) -> Hashable:
        """Which database and which of its tables, too."""
        return self.name, self._database, self._limits, self.max_chars, self.max_tokens

    def determinant(self) -> bytes:
        """What determines an answer; the database, too.

        Raises:
            ToolDefinitionError: Nobody said which database.
        """
        database = self._known()
        tables = None if database.tables is None else sorted(database.tables)
        return super().determinant() + msgspec.json.encode([str(database.path), tables, self._limits])

    def stamp(self) -> bytes:
        """The state of the database: an answer about other content is another answer."""
        return super().stamp() + (state_of(*self._files()) or "").encode()

    def resource(self, arguments: Mapping[str, Any]) -> str | None:
        """Size and times of the file and of its log of changes; None when they have changed just now."""
        del arguments
        return None if self._database is None else stamp_of(*self._files())

    def _files(self) -> tuple[Path, Path]:
        path = self._known().path
        return path, Path(f"{path}-wal")

    def _known(self) -> Database:
        if self._database is None:
            raise ToolDefinitionError("sql_query has no database", remedy=_HOW)
        return self._database


def _path_of(url: str) -> Path:
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme != "sqlite" or not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
        # The address is not shown: it may hold a password.
        problem = f"sql_query reads no {scheme[:20] or 'such'} database"
        raise ToolDefinitionError(problem, remedy="give sqlite:///relative.db or sqlite:////absolute.db")
    return Path(os.path.abspath(url.removeprefix("sqlite:///")))  # noqa: PTH100 - resolving would follow links


def _described(database: Database | None) -> str:
    text = "Runs one SELECT statement on a SQLite database and returns its rows."
    if database is None:
        return text
    described = f"{text} Tables: {tables_of(database)}"
    return described if len(described) <= _MAX_DESCRIPTION_CHARS else described[:_MAX_DESCRIPTION_CHARS] + " ..."


SQL_QUERY = SqlTool()
