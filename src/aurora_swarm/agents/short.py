"""The short way of an agent without tools: one call, and an answer that is valid at once. Pure.

Most agents of most batches end so. The turn machine comes to the same result; it is led past because what it costs is
a fifth of what such an agent may cost at all.
"""

from __future__ import annotations

from typing import Any

from aurora_swarm.agents.task import Task
from aurora_swarm.errors import InvalidOutputError
from aurora_swarm.values.call import Call
from aurora_swarm.values.outcome import AgentResult, Outcome
from aurora_swarm.values.reply import Usage

_NOTHING = Usage()


def may_be_short(task: Task) -> bool:
    """Whether a task may end with its first reply, and nothing watches over the time until then."""
    rules = task.rules
    return rules.protocol is None and rules.context is None and task.timeout_s is None and task.turn_timeout_s is None


def first_call(task: Task) -> Call:
    """What the turn machine asks first."""
    return Call(
        messages=task.messages,
        model=task.model,
        sampling=task.sampling,
        schema=task.rules.output.encoded,
        agent=task.key,
        turns_left=task.rules.max_turns - 1,
        prefix=task.prefix,
    )


def ended_at_once(task: Task, outcome: Outcome, latency_s: float) -> AgentResult[Any] | None:
    """The result of an agent whose first call failed, or brought a valid answer.

    Args:
        task: What it was to do.
        outcome: What came of its first call.
        latency_s: Seconds since it began.

    Returns:
        The result; None where the answer is not valid, so that the turn machine must go on.
    """
    reply, endpoint = outcome.reply, outcome.endpoint
    url = endpoint.url if endpoint is not None else ""
    if reply is None:
        return AgentResult(
            task.index, task.key, ok=False, output=None, error=outcome.error, attempts=outcome.attempts, turns=1,
            usage=_NOTHING, latency_s=latency_s, endpoint=url,
        )  # fmt: skip
    try:
        parsed = task.rules.output.parse(reply.text)
    except InvalidOutputError:
        return None
    return AgentResult(
        task.index, task.key, True, parsed.value, None, reply.text,
        attempts=len(outcome.failures) + 1, turns=1, usage=reply.usage, repaired=parsed.repaired,
        latency_s=latency_s, endpoint=url, ttft_s=reply.ttft_s,
    )  # fmt: skip
