"""What OpenCode says while it works, one JSON object per line, and what it comes to. Pure."""

from __future__ import annotations

import json
from typing import Any

from aurora_swarm.values.reply import Usage


class Progress:
    """Adds up the events of one run; what is no event, or one that nobody knows, is passed over.

    Attributes:
        turns: Turns of the model that ended.
        tool_calls: Calls of tools that ended, failed ones too.
        usage: Tokens spent.
        failure: What OpenCode reported as an error; empty when it reported none.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.tool_calls = 0
        self.usage = Usage()
        self.failure = ""
        self._message = ""
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        """All that the model said in its last message."""
        return "\n".join(self._texts)

    def see(self, line: bytes) -> None:
        """Take one line of its output."""
        event = _object(line)
        part = _mapping(event.get("part"))
        match event.get("type"):
            case "text":
                self._hear(part)
            case "tool_use":
                self.tool_calls += 1
            case "step_finish":
                self.turns += 1
                self.usage += _usage(part.get("tokens"))
            case "error":
                self.failure = _failure(event.get("error"))

    def _hear(self, part: dict[str, Any]) -> None:
        if part.get("messageID") != self._message:
            self._message = str(part.get("messageID"))
            self._texts.clear()
        self._texts.append(str(part.get("text", "")))


def _object(line: bytes) -> dict[str, Any]:
    try:
        return _mapping(json.loads(line))
    except (ValueError, RecursionError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _usage(tokens: Any) -> Usage:
    """OpenCode counts cached tokens beside the fresh ones, and thinking beside the answer."""
    tokens = _mapping(tokens)
    cache = _mapping(tokens.get("cache"))
    read, written = _count(cache, "read"), _count(cache, "write")
    prompt = _count(tokens, "input") + read + written
    return Usage(prompt, _count(tokens, "output") + _count(tokens, "reasoning"), read)


def _count(tokens: dict[str, Any], name: str) -> int:
    value = tokens.get(name, 0)
    return int(value) if isinstance(value, int | float) else 0


def _failure(error: Any) -> str:
    error = _mapping(error)
    data = _mapping(error.get("data"))
    said = data.get("message") or error.get("message") or error.get("name") or "it does not say what"
    status = f" (HTTP {data['statusCode']})" if "statusCode" in data else ""
    return f"{str(said)[:500]}{status}"
