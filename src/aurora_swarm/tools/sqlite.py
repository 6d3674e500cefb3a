"""Queries on a SQLite file that can do nothing but read what was granted."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from pydantic_core import to_json

from aurora_swarm.errors import ToolDefinitionError, ToolFailedError
from aurora_swarm.tools.refusal import RefusedError

Value = str | int | float | None

_OPERATIONS_BETWEEN_LOOKS = 1000
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
# Functions that reach beyond the data, where a build has them, and those that a number alone keeps busy for long.
_REFUSED_FUNCTIONS = frozenset(
    {"edit", "format", "fts3_tokenizer", "load_extension", "lsmode", "printf", "readfile", "writefile"}
)


class RefusedQueryError(RefusedError):
    """A query that may not be run, or cannot; the text is written for the model."""


class Database(msgspec.Struct, frozen=True):
    """What may be read.

    Args:
        path: The file, absolute.
        tables: Tables and views that may be read; None for all. A view needs the tables that it reads, too.
    """

    path: Path
    tables: frozenset[str] | None = None


class QueryLimits(msgspec.Struct, frozen=True):
    """What a query may take.

    Args:
        max_rows: Rows of its answer.
        timeout_s: Seconds.
    """

    max_rows: int = 100
    timeout_s: float = 10.0


def run_query(query: str, parameters: Sequence[Value], database: Database, limits: QueryLimits, max_chars: int) -> str:
    """Run one query.

    Args:
        query: One SELECT statement.
        parameters: The value of each ``?``.
        database: What may be read.
        limits: What it may take.
        max_chars: Characters of rows that are read.

    Returns:
        Columns and rows as JSON, with a note where there are more rows.

    Raises:
        RefusedQueryError: It is not one query, it does more than read what was granted, or SQLite finds fault with it.
        ToolFailedError: It took too long, or the database cannot be read.
    """
    with _opened(database.path) as connection:
        deadline = time.monotonic() + limits.timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _OPERATIONS_BETWEEN_LOOKS)
        connection.set_authorizer(_Authorizer(database.tables))
        try:
            return _answer(connection.execute(query, tuple(parameters)), limits.max_rows, max_chars)
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise ToolFailedError(f"the query took longer than {limits.timeout_s:g} s") from None
            raise RefusedQueryError(_sentence(error)) from None
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            raise RefusedQueryError(_sentence(error)) from None


def tables_of(database: Database) -> str:
    """Tables and columns, as a model is told of them: ``genes(symbol TEXT, length INTEGER); ...``.

    Raises:
        ToolDefinitionError: It cannot be read as a SQLite database, or lacks a table that is granted.
    """
    try:
        with _opened(database.path) as connection:
            listed = connection.execute(
                "SELECT m.name, c.name, c.type FROM sqlite_schema m JOIN pragma_table_xinfo(m.name) c "
                "WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY m.name, c.cid"
            ).fetchall()
    except (sqlite3.Error, ToolFailedError) as error:
        remedy = "give the path of an existing SQLite database"
        raise ToolDefinitionError(f"{database.path} cannot be read: {_sentence(error)}", remedy=remedy) from None
    columns: dict[str, list[str]] = {}
    for table, column, kind in listed:
        if database.tables is None or table in database.tables:
            columns.setdefault(table, []).append(f"{column} {kind}".strip())
    if missing := sorted((database.tables or frozenset()) - columns.keys()):
        raise ToolDefinitionError(
            f"{database.path} has no table {', '.join(missing)}", remedy="name tables that it has"
        )
    return "; ".join(f"{table}({', '.join(names)})" for table, names in columns.items()) or "none"


class _Authorizer:
    """Says what a statement may do, when SQLite compiles it: read, and nothing else."""

    def __init__(self, tables: frozenset[str] | None) -> None:
        self._tables = None if tables is None else {table.lower() for table in tables}

    def __call__(self, action: int, first: str | None, second: str | None, *_: str | None) -> int:
        # The name of the view that reads a table is given too, but a WITH clause can bring any name there.
        if action == sqlite3.SQLITE_READ:
            allowed = self._tables is None or (first or "").lower() in self._tables
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed = (second or "").lower() not in _REFUSED_FUNCTIONS
        else:
            allowed = action in _READING
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, whatever it is told, and trusts nothing that the file says."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, timeout=2.0)
    except sqlite3.Error as error:
        raise ToolFailedError(f"the database cannot be read: {_sentence(error)}") from None
    with closing(connection):
        for limit, value in _LIMITS.items():
            connection.setlimit(limit, value)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        yield connection


def _answer(cursor: sqlite3.Cursor, max_rows: int, max_chars: int) -> str:
    if cursor.description is None:
        raise RefusedQueryError("it is no query: begin with SELECT")
    columns = [name for name, *_ in cursor.description]
    rows: list[str] = []
    chars, note = 0, ""
    for row in cursor:
        text = to_json([_shown(value) for value in row], inf_nan_mode="strings").decode()
        if len(rows) == max_rows or chars + len(text) > max_chars:
            note = f"\n[cut after {len(rows)} rows; there are more]"
            break
        rows.append(text)
        chars += len(text)
    return f'{{"columns":{to_json(columns).decode()},"rows":[{",".join(rows)}]}}{note}'


def _shown(value: Any) -> Any:
    return f"[{len(value)} bytes]" if isinstance(value, bytes) else value


def _sentence(error: BaseException) -> str:
    if "not authorized" in str(error) or "is prohibited" in str(error):
        return "a query may read the tables that it was given, and do nothing else"
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__
