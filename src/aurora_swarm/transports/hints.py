"""OpenAI chat completions for servers that take hints about the agent that asks."""

from __future__ import annotations

from typing import Any

from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.wire import encoded
from aurora_swarm.values.call import Call


class PriorityChatWire(OpenAIChatWire):
    """With a ``priority`` in every request, for engines that schedule by it and refuse it otherwise.

    A call's priority is the turns that its agent has left, so that agents that are nearly done go first.

    Args:
        least_first: Whether the engine takes the smallest number first, as vLLM does; SGLang takes the largest.
    """

    def __init__(self, *, least_first: bool = True) -> None:
        super().__init__()
        self._sign = 1 if least_first else -1

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return _with(super().encode(call, model), b"priority", self._sign * call.turns_left)

    def encode_stream(self, call: Call, model: str) -> bytes:
        """The request's body for a streamed answer.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return _with(super().encode_stream(call, model), b"priority", self._sign * call.turns_left)


class DynamoChatWire(OpenAIChatWire):
    """With NVIDIA Dynamo's agent hints, which the router uses and passes on to engines that can.

    Of an agent's calls, those with fewer turns left have the higher priority, and where turns are left Dynamo may
    compute the next one's prefix as soon as the answer is there. The expected length is the bound on tokens.
    Source: https://docs.nvidia.com/dynamo/latest/user-guides/agents/agent-hints
    """

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return _with(super().encode(call, model), b"nvext", {"agent_hints": _hints(call)})

    def encode_stream(self, call: Call, model: str) -> bytes:
        """The request's body for a streamed answer.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return _with(super().encode_stream(call, model), b"nvext", {"agent_hints": _hints(call)})


def _hints(call: Call) -> dict[str, Any]:
    hints: dict[str, Any] = {"priority": -call.turns_left}
    if call.sampling.max_tokens is not None:
        hints["osl"] = call.sampling.max_tokens
    if call.agent and call.turns_left > 0:
        hints["speculative_prefill"] = True
    return hints


def _with(body: bytes, name: bytes, value: Any) -> bytes:
    """An object's JSON with one field more."""
    return b'%b,"%b":%b}' % (body[:-1], name, encoded(value))
