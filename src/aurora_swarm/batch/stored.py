"""How a finished result is kept in a journal, and taken out again."""

from __future__ import annotations

from typing import Any

import msgspec

from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.errors import InvalidOutputError
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.record import Record
from aurora_swarm.values.reply import Usage


class Stored(msgspec.Struct, frozen=True):
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


_DECODER = msgspec.json.Decoder(Stored)


def to_record(result: AgentResult[Any]) -> Record:
    """A result that is ok, as a record."""
    data = result.as_dict()
    fields = {name: data[name] for name in Stored.__struct_fields__ if name != "output"}
    return Record(result.key, msgspec.json.encode({"output": data["output"], **fields}))


def from_record(record: Record, index: int, output: OutputSpec) -> AgentResult[Any] | None:
    """The result of an earlier run, for the input that now has this index.

    Returns:
        The result; None when the record cannot be read or its answer is not valid any more, so that the work is done
        again rather than answered wrongly.
    """
    try:
        stored = _DECODER.decode(record.payload)
        value = output.revive(bytes(stored.output))
    except (msgspec.DecodeError, InvalidOutputError):
        return None
    return AgentResult(
        index=index,
        key=record.key,
        ok=True,
        output=value,
        error=None,
        text=stored.text,
        attempts=stored.attempts,
        turns=stored.turns,
        usage=stored.usage,
        tool_calls=stored.tool_calls,
        tools_executed=stored.tools_executed,
        repaired=stored.repaired,
        resumed=True,
        latency_s=stored.latency_s,
        endpoint=stored.endpoint,
    )
