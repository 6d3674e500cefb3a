"""How asking ended: every call has exactly one outcome, and it keeps every attempt."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from aurora_swarm.errors import AuroraSwarmError, CallError
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Reply, Usage

OutputT = TypeVar("OutputT")


class Attempt(msgspec.Struct, frozen=True):
    """One failed try of a call.

    Args:
        endpoint: Who was asked.
        error: What happened.
        latency_s: Seconds from sending to the failure.
    """

    endpoint: AgentEndpoint
    error: CallError
    latency_s: float


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How one call ended; exactly one of `reply` and `error` is set.

    Args:
        reply: The answer.
        error: Why there is none.
        endpoint: Who answered, or who failed last; None when nobody was asked.
        failures: Every failed attempt, in order of time.
        latency_s: Seconds from the first wish to the end, waiting for a slot included.
    """

    reply: Reply | None
    error: CallError | None
    endpoint: AgentEndpoint | None
    failures: tuple[Attempt, ...] = ()
    latency_s: float = 0.0

    @property
    def attempts(self) -> int:
        """Requests that were sent."""
        return len(self.failures) + (self.reply is not None)


class Response(msgspec.Struct, frozen=True, gc=False):
    """What a pool gives back for one prompt. Never raises for a failed call: `error` says why.

    Args:
        success: Whether there is an answer.
        text: The answer; empty on failure.
        error: A typed error that prints as a sentence; None on success.
        agent_index: Position of the endpoint in the pool that was asked; -1 when nobody was.
        endpoint: The endpoint that answered, or that failed last.
        index: Position of the prompt in the list that was given.
        usage: Tokens spent.
        finish_reason: ``stop``, ``length`` ...; empty on failure.
        attempts: Requests that were sent.
        failures: Every failed attempt.
        latency_s: Seconds from the wish to the answer, waiting included.
    """

    success: bool
    text: str
    error: CallError | None
    agent_index: int
    endpoint: AgentEndpoint | None = None
    index: int = 0
    usage: Usage = Usage()
    finish_reason: str = ""
    attempts: int = 0
    failures: tuple[Attempt, ...] = ()
    latency_s: float = 0.0


class EmbeddingResponse(msgspec.Struct, frozen=True, gc=False):
    """What an embedding pool gives back for one text. Never raises for a failed text: `error` says why.

    Args:
        success: Whether there is a vector.
        embedding: The vector; None on failure.
        error: A typed error that prints as a sentence; None on success.
        agent_index: Position of the endpoint in the pool that was asked; -1 when nobody was.
        endpoint: The endpoint that answered, or that failed last.
        index: Position of the text in the list that was given.
        usage: Tokens spent; a server counts a whole request, and each text has its share by length.
        model: The model that answered, by the server's word.
        attempts: Requests that were sent for this text, most of them for others too.
        failures: Every failed attempt.
        latency_s: Seconds from the wish to the answer, waiting included.
    """

    success: bool
    embedding: tuple[float, ...] | None
    error: CallError | None
    agent_index: int
    endpoint: AgentEndpoint | None = None
    index: int = 0
    usage: Usage = Usage()
    model: str = ""
    attempts: int = 0
    failures: tuple[Attempt, ...] = ()
    latency_s: float = 0.0


class AgentResult(msgspec.Struct, Generic[OutputT], frozen=True, gc=False):
    """How one input of a batch ended: exactly one per input.

    Args:
        index: Position of the input.
        key: Content key: the hash of everything that determines the answer.
        ok: Whether `output` holds a valid answer.
        output: The validated answer (an instance of the schema), or the text when there is no schema.
        error: A typed error that prints as a sentence; None when ok.
        text: The model's last text, unchanged.
        attempts: Requests that were sent for this input, retries included.
        turns: Model turns taken.
        usage: Tokens spent.
        tool_calls: Tool calls that the model asked for.
        tools_executed: Tool calls that were really executed for this agent (not shared, not cached).
        repaired: Whether the JSON had to be repaired before it was valid.
        resumed: Whether the answer came from the journal.
        latency_s: Seconds from start to end of the agent.
        endpoint: URL of the endpoint that gave the last answer; empty when none did.
        ttft_s: Seconds to the first token of the first turn, where answers are streamed; None otherwise.
        replayed: Replies that were taken from the journal instead of being asked for.
        in_doubt: Calls of tools with effects that an interrupted run had begun: nobody knows whether they happened,
            and they were not repeated.
    """

    index: int
    key: str
    ok: bool
    output: OutputT | None
    error: AuroraSwarmError | None
    text: str = ""
    attempts: int = 0
    turns: int = 0
    usage: Usage = Usage()
    tool_calls: int = 0
    tools_executed: int = 0
    repaired: bool = False
    resumed: bool = False
    latency_s: float = 0.0
    endpoint: str = ""
    ttft_s: float | None = None
    in_doubt: int = 0
    replayed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as a line of a results file has it."""
        output: Any = self.output
        data = msgspec.structs.asdict(self)
        data["output"] = output.model_dump(mode="json") if hasattr(output, "model_dump") else output
        data["error"] = self.error.as_dict() if self.error else None
        data["usage"] = msgspec.structs.asdict(self.usage)
        return data
