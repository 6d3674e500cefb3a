"""Which MCP server is meant, and what of it is offered."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import get_args

import msgspec

from aurora_swarm.errors import UsageError
from aurora_swarm.tools.definition import Effect


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server whose tools agents may use: a program that is started, or an address.

    Args:
        command: The program and its arguments, spoken to over its standard input and output.
        url: Instead of `command`: address of a server that runs, by streamable HTTP (``https://host/mcp``).
        env: Further environment variables of the program. It inherits HOME, LOGNAME, PATH, SHELL, TERM and USER, and
            no others: keys of yours reach it only from here.
        cwd: The program's folder; the current one when empty.
        headers: Sent with every request to `url`, for example ``{"Authorization": "Bearer ..."}``.
        allow: The only tools that are offered, by the server's names; None for all that it has.
        prefix: Put before the tools' names, so that those of two servers stay apart.
        effects: Effect class per tool, by the server's names, where you know more than the server says.
        timeout_s: Seconds for one call.
        start_timeout_s: Seconds for starting, connecting and listing.
        max_chars: Characters of an answer that the model is shown.
        max_bytes: Longest message that is taken from the server; a longer one ends the connection.

    Raises:
        UsageError: Neither or both of `command` and `url` are given, or a value cannot be used.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = {}
    cwd: str = ""
    headers: Mapping[str, str] = {}
    allow: tuple[str, ...] | None = None
    prefix: str = ""
    effects: Mapping[str, Effect] = {}
    timeout_s: float = 30.0
    start_timeout_s: float = 30.0
    max_chars: int = 20_000
    max_bytes: int = 4_000_000

    def __post_init__(self) -> None:
        problem = _first_problem(self)
        if problem is not None:
            raise UsageError(f"McpServer: {problem[0]}", remedy=problem[1])

    @property
    def place(self) -> str:
        """The address without what may be secret in it, or the program's name, for error messages."""
        return self.url.partition("?")[0].rpartition("@")[2] if self.url else self.command[0]

    @staticmethod
    def at(place: str) -> McpServer:
        """The server at an address (``http://...``), or the program that a command line starts.

        Args:
            place: Words of a command line are split as a shell does; nothing else of a shell is done.

        Raises:
            UsageError: It is neither.
        """
        if place.startswith(("http://", "https://")):
            return McpServer(url=place)
        try:
            return McpServer(command=tuple(shlex.split(place)))
        except ValueError as error:
            raise UsageError(f"McpServer: {place!r} is no command line: {error}", remedy="close its quotes") from None


def _first_problem(server: McpServer) -> tuple[str, str] | None:
    effects = get_args(Effect)
    checks = (
        (isinstance(server.command, str), "command is one text", "give a sequence of words, or use McpServer.at(...)"),
        (
            bool(server.command) == bool(server.url),
            "give either command or url",
            "command=('python', 'server.py') or url='https://host/mcp'",
        ),
        (
            bool(server.url) and not server.url.startswith(("http://", "https://")),
            f"url is {server.url!r}",
            "begin it with http:// or https://",
        ),
        (bool(server.env) and bool(server.url), "env goes with command", "use headers for a server at a url"),
        (bool(server.headers) and not server.url, "headers go with url", "use env for a program"),
        *(
            (not getattr(server, name) > 0, f"{name} is {getattr(server, name)}", "give a number above 0")
            for name in ("timeout_s", "start_timeout_s", "max_chars", "max_bytes")
        ),
        *(
            (effect not in effects, f"effect of {name} is {effect!r}", f"give one of: {', '.join(effects)}")
            for name, effect in server.effects.items()
        ),
    )
    return next(((problem, remedy) for wrong, problem, remedy in checks if wrong), None)
