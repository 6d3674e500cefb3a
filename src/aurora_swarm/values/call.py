"""What is asked of a model."""

from __future__ import annotations

from typing import Literal

import msgspec

from aurora_swarm.values.message import Message


class Sampling(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How the model picks its tokens; None leaves the choice to the server.

    Args:
        max_tokens: Upper bound on generated tokens.
        temperature: 0 is greedy.
        top_p: Nucleus mass in (0, 1].
        seed: For engines that can repeat themselves.
        stop: Strings that end the generation.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class OfferedTool(msgspec.Struct, frozen=True):
    """A tool as a model is told of it, for servers with a tool protocol of their own.

    Args:
        name: What the model calls it.
        description: What it does.
        parameters: JSON schema of its arguments, an object, encoded.
    """

    name: str
    description: str
    parameters: msgspec.Raw


class Call(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One request to a model, independent of the endpoint and of the wire that carry it.

    Args:
        messages: The conversation so far; at least one message.
        model: Name that the server knows; empty lets the transport fill in what the endpoint serves.
        sampling: How tokens are picked.
        schema: JSON schema, encoded as JSON, that the answer is constrained to; None for free text.
        agent: Id of the agent that asks; empty outside of a batch.
        turn: 0-based turn of that agent.
        turns_left: How many further turns the agent may take; nearly finished agents go first.
        prefix: Identity of the shared prefix, for placement; empty when there is none.
        tools: What the model may call by the server's own protocol; empty where tools are asked for in another way.
        tool_choice: Whether it must call one of `tools`, may, or may not; without `tools` it says nothing.
    """

    messages: tuple[Message, ...]
    model: str = ""
    sampling: Sampling = Sampling()
    schema: msgspec.Raw | None = None
    agent: str = ""
    turn: int = 0
    turns_left: int = 0
    prefix: str = ""
    tools: tuple[OfferedTool, ...] = ()
    tool_choice: Literal["auto", "required", "none"] = "auto"
