"""How a result travels from the worker that has it to whoever reads the run's output: data, no code. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import BaseModel

from aurora_swarm import errors
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.errors import AgentError, AuroraSwarmError, InvalidOutputError
from aurora_swarm.values.event import ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage


class Failure(msgspec.Struct, frozen=True):
    """An error as data: its class, and the fields that are plain."""

    name: str
    fields: dict[str, Any]


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """What travels of a result, and of what happened on the way to it."""

    ok: bool
    key: str = ""
    output: str = "null"
    error: Failure | None = None
    tools: tuple[ToolEnded, ...] = ()
    text: str = ""
    attempts: int = 0
    turns: int = 0
    usage: Usage = Usage()
    tool_calls: int = 0
    tools_executed: int = 0
    repaired: bool = False
    latency_s: float = 0.0
    endpoint: str = ""
    ttft_s: float | None = None
    in_doubt: int = 0
    replayed: int = 0


_FIELDS = (
    "ok", "text", "attempts", "turns", "usage", "tool_calls", "tools_executed", "repaired", "latency_s", "endpoint",
    "ttft_s", "in_doubt", "replayed",
)  # fmt: skip


def written(result: AgentResult[Any], tools: Sequence[ToolEnded] = ()) -> bytes:
    """A result as bytes.

    Args:
        result: Ok or failed.
        tools: What its tools did.

    Raises:
        ValueError: The output cannot be written as JSON; so do TypeError, OverflowError and RecursionError.
    """
    output = result.output
    text = output.model_dump_json() if isinstance(output, BaseModel) else json.dumps(msgspec.to_builtins(output))
    told = Told(
        output=text,
        key=result.key,
        error=None if result.error is None else _failure(result.error),
        tools=tuple(tools),
        **{name: getattr(result, name) for name in _FIELDS},
    )
    try:
        return msgspec.json.encode(told)
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(msgspec.to_builtins(told)).encode()


def read(payload: bytes, index: int, output: OutputSpec) -> tuple[AgentResult[Any], tuple[ToolEnded, ...]]:
    """The result for an input, and what its tools did.

    An output that is no answer any more, because the schema is another one, makes it a failure.
    """
    told = msgspec.convert(json.loads(payload), Told)
    error = None if told.error is None else _error(told.error)
    value: Any = None
    if told.ok:
        try:
            value = _revived(told.output, output)
        except (InvalidOutputError, ValueError) as problem:
            error = InvalidOutputError(f"the answer in the store is none any more: {problem}", text=told.text)
    fields = {name: getattr(told, name) for name in _FIELDS} | {"ok": told.ok and error is None}
    tools = tuple(msgspec.structs.replace(tool, index=index) for tool in told.tools)
    return AgentResult(index=index, key=told.key, output=value, error=error, **fields), tools


def _revived(text: str, output: OutputSpec) -> Any:
    """The output that was written; a text may hold what JSON from elsewhere may not.

    Raises:
        InvalidOutputError: It is no answer by this schema; so is ValueError.
    """
    value = json.loads(text) if output.schema is None else None
    return value if isinstance(value, str) else output.revive(text.encode("utf-8", "surrogatepass"))


def _failure(error: AuroraSwarmError) -> Failure:
    name = next(kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return Failure(name, {field: value for field, value in vars(error).items() if _is_plain(value)})


def _is_plain(value: Any) -> bool:
    plain = str | int | float | bool | None
    return all(isinstance(each, plain) for each in value) if isinstance(value, tuple) else isinstance(value, plain)


def _error(failure: Failure) -> AuroraSwarmError:
    kind = getattr(errors, failure.name, AgentError)
    if not (isinstance(kind, type) and issubclass(kind, AuroraSwarmError)):
        kind = AgentError
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in failure.fields.items()}
    restore, _ = AuroraSwarmError("").__reduce__()
    error: AuroraSwarmError = restore(kind, {"problem": "", "remedy": "", **fields})
    return error
