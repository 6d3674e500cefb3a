"""How a finished result, and a turn of an unfinished agent, are kept in a journal and taken out again. Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from pydantic import BaseModel

from aurora_swarm.agents.driver import Recorded, ToolReport
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.errors import InvalidOutputError
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.record import Record
from aurora_swarm.values.reply import Reply, Usage


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of a result is kept: the answer and what it took."""

    output: msgspec.Raw
    text: str
    attempts: int
    turns: int
    usage: Usage
    tool_calls: int
    tools_executed: int
    repaired: bool
    latency_s: float
    endpoint: str
    ttft_s: float | None = None
    in_doubt: int = 0


_FIELDS = tuple(name for name in Stored.__struct_fields__ if name != "output")
_RESULT = msgspec.json.Decoder(Stored)
_TURN: Any = Reply | list[ToolReport]
_RECORDED = msgspec.msgpack.Decoder(_TURN)
_UNREADABLE = (msgspec.MsgspecError, InvalidOutputError, ValueError, RecursionError)


def to_record(result: AgentResult[Any]) -> Record:
    """A result that is ok, as a record.

    Raises:
        ValueError: The output cannot be written as JSON; so do TypeError, OverflowError and RecursionError.
    """
    output = result.output
    encoded = output.model_dump_json().encode() if isinstance(output, BaseModel) else msgspec.json.encode(output)
    fields = {name: getattr(result, name) for name in _FIELDS}
    return Record(result.key, msgspec.json.encode(Stored(msgspec.Raw(encoded), **fields)))


def from_record(record: Record, index: int, output: OutputSpec) -> AgentResult[Any] | None:
    """The result of an earlier run, for the input that now has this index.

    Returns:
        The result; None when the record cannot be read or its answer is not valid any more, so that the work is done
        again rather than answered wrongly.
    """
    try:
        stored = _RESULT.decode(record.payload)
        value = output.revive(bytes(stored.output))
    except _UNREADABLE:
        return None
    fields = {name: getattr(stored, name) for name in _FIELDS}
    return AgentResult(index=index, key=record.key, ok=True, output=value, error=None, resumed=True, **fields)


def encode_heard(heard: Recorded) -> bytes:
    """What an agent heard, as bytes: msgpack, or JSON where a model's numbers and texts are beyond what that has.

    Raises:
        InvalidOutputError: A tool call of the reply is nested too deeply.
    """
    try:
        try:
            return msgspec.msgpack.encode(heard)
        except (OverflowError, UnicodeEncodeError):
            return json.dumps(msgspec.to_builtins(heard)).encode()
    except RecursionError:
        text = heard.text if isinstance(heard, Reply) else ""
        raise InvalidOutputError("its tool calls are nested too deeply", text=text) from None


def decode_heard(payload: bytes) -> Recorded | None:
    """What was encoded; None when it cannot be read, so that the model is asked again."""
    try:
        is_json = payload[:1] in {b"{", b"["}
        heard: Recorded = msgspec.convert(json.loads(payload), _TURN) if is_json else _RECORDED.decode(payload)
    except _UNREADABLE:
        return None
    return heard
