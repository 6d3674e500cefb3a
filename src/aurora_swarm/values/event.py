"""What happened, for those who watch. Watching never steers."""

from __future__ import annotations

import msgspec

from aurora_swarm.values.outcome import AgentResult


class RunStarted(msgspec.Struct, frozen=True, tag="run_started"):
    """A batch begins.

    Args:
        total: Number of inputs; None when they are not known in advance.
        endpoints: URLs of the fleet.
        model: The model asked for.
    """

    total: int | None
    endpoints: tuple[str, ...]
    model: str


class AgentStarted(msgspec.Struct, frozen=True, tag="agent_started"):
    """An agent takes up its input."""

    index: int


class ToolEnded(msgspec.Struct, frozen=True, tag="tool_ended"):
    """A tool call was answered.

    Args:
        index: The agent's input.
        tool: The tool's name.
        executed: False when the answer was shared with another call or cached.
        ok: Whether the tool succeeded.
        latency_s: Seconds from asking to the answer.
    """

    index: int
    tool: str
    executed: bool
    ok: bool
    latency_s: float


class AgentEnded(msgspec.Struct, frozen=True, tag="agent_ended"):
    """An agent has its result; durable already when a journal is on."""

    result: AgentResult[object]


class RunEnded(msgspec.Struct, frozen=True, tag="run_ended"):
    """A batch is over.

    Args:
        cancelled: Whether it was stopped before its end.
    """

    cancelled: bool = False


Event = RunStarted | AgentStarted | ToolEnded | AgentEnded | RunEnded
