"""What one agent is to do, and those whom it turns to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from aurora_swarm.agents.turns import Rules
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Reply


class ToolReport(msgspec.Struct, frozen=True):
    """What a tool call came to.

    Args:
        text: What the model is told.
        executed: Whether the tool ran for this call, rather than for another one.
        in_doubt: Whether an interrupted run may have made the call already, so that it was not made again.
    """

    text: str
    executed: bool
    in_doubt: bool = False


Recorded = Reply | Sequence[ToolReport]
"""What an agent heard, with what its result counts of it."""


class Task(msgspec.Struct, frozen=True, gc=False):
    """What one agent is to do.

    Args:
        index: Position of its input.
        key: Content key of its input.
        messages: How the conversation begins.
        rules: What bounds it.
        model: Model name.
        sampling: How tokens are picked.
        prefix: Identity of the shared prefix.
        timeout_s: Time for the whole agent; None for as long as its calls may take.
        turn_timeout_s: Time for one call to the model, waiting included; None for no bound of its own.
    """

    index: int
    key: str
    messages: tuple[Message, ...]
    rules: Rules
    model: str = ""
    sampling: Sampling = Sampling()
    prefix: str = ""
    timeout_s: float | None = None
    turn_timeout_s: float | None = None


AskModel = Callable[[Call], Awaitable[Outcome]]
"""Places a call; never raises for a failed one."""

UseTool = Callable[[ToolCall, bool], Awaitable[ToolReport]]
"""Calls a tool; a failing tool is a report, not an exception. The second argument says whether an interrupted run may
have made the call already.
"""

Keep = Callable[[int, Recorded], Awaitable[None]]
"""Makes durable what an agent heard: told its place in the conversation (0, 1, 2 ...), and the reply or what the tool
calls came to.
"""
