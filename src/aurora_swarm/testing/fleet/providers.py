"""The wires of hosted providers, as a simulated server speaks them: Anthropic's and Bedrock's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec

from aurora_swarm.testing import answers, provider_answers
from aurora_swarm.testing.fleet.speech import Speech


class ProviderMessage(msgspec.Struct):
    """One message of a request."""

    role: str
    content: str | list[dict[str, Any]] = ""


class MessagesBody(msgspec.Struct):
    """A request to Anthropic."""

    messages: list[ProviderMessage]
    max_tokens: int
    model: str = ""
    system: str | list[dict[str, Any]] = ""
    tools: list[dict[str, Any]] = []
    tool_choice: dict[str, Any] = {}
    stream: bool = False


class ConverseBody(msgspec.Struct, rename="camel"):
    """A request to Bedrock."""

    messages: list[ProviderMessage]
    system: list[dict[str, Any]] = []
    inference_config: dict[str, Any] = {}
    tool_config: dict[str, Any] = {}


class ProviderRequest(msgspec.Struct, frozen=True):
    """What both say in their own words.

    Args:
        prompt: As the engine gets it: tools, system, conversation.
        said: What the user said last.
        first: What the user said first.
        taken: Turns that the model has taken.
        allowed: Tokens to generate at most; None for any number.
        model: The model asked for.
        streamed: Whether the answer is streamed.
        tools: Names of the tools that may be called.
    """

    prompt: str
    said: str
    first: str
    taken: int
    allowed: int | None
    model: str
    streamed: bool
    tools: frozenset[str]


_MESSAGES = msgspec.json.Decoder(MessagesBody)
_CONVERSE = msgspec.json.Decoder(ConverseBody)


def is_converse(path: bytes) -> bool:
    """Whether a path is Bedrock's."""
    return path.startswith(b"/model/") and path.endswith((b"/converse", b"/converse-stream"))


def read_messages(body: bytes) -> ProviderRequest:
    """A request to Anthropic.

    Raises:
        msgspec.DecodeError: It is none.
    """
    asked = _MESSAGES.decode(body)
    tools = frozenset(tool["name"] for tool in asked.tools if asked.tool_choice.get("type") != "none")
    shared = "".join([encode_text(asked.tools), _text(asked.system)])
    return _request(asked.messages, shared, asked.max_tokens, asked.model, streamed=asked.stream, tools=tools)


def read_converse(path: bytes, body: bytes) -> ProviderRequest:
    """A request to Bedrock.

    Raises:
        msgspec.DecodeError: It is none.
    """
    asked = _CONVERSE.decode(body)
    listed = asked.tool_config.get("tools", [])
    tools = frozenset(tool["toolSpec"]["name"] for tool in listed if "toolSpec" in tool)
    shared = "".join([encode_text(listed), _text(asked.system)])
    model, _, operation = path.decode().removeprefix("/model/").rpartition("/")
    allowed = asked.inference_config.get("maxTokens")
    streamed = operation == "converse-stream"
    return _request(asked.messages, shared, allowed, unquote(model), streamed=streamed, tools=tools)


def _request(
    messages: Sequence[ProviderMessage],
    shared: str,
    allowed: int | None,
    model: str,
    *,
    streamed: bool,
    tools: frozenset[str],
) -> ProviderRequest:
    texts = [_text(message.content) for message in messages]
    prompt = shared + "".join(f"<|{each.role}|>{text}\n" for each, text in zip(messages, texts, strict=True))
    said = [text for each, text in zip(messages, texts, strict=True) if each.role == "user"] or [""]
    taken = sum(message.role == "assistant" for message in messages)
    return ProviderRequest(prompt, said[-1], said[0], taken, allowed, model, streamed, tools)


def encode_text(value: Any) -> str:
    """JSON, or nothing for nothing."""
    return answers.encode(value).decode() if value else ""


def _text(content: str | Iterable[Mapping[str, Any]]) -> str:
    """What blocks say; those that are no text as JSON, marks for the cache as nothing."""
    if isinstance(content, str):
        return content
    blocks = (block for block in content if "cachePoint" not in block)
    return "".join(block["text"] if "text" in block else encode_text(block) for block in blocks)


class Voice(Protocol):
    """How a provider writes an answer."""

    kind: bytes

    def whole(self, speech: Speech, reason: str, usage: Mapping[str, int], model: str) -> Any:
        """A whole answer, as a value."""
        ...

    def opening(self, speech: Speech, usage: Mapping[str, int], model: str) -> bytes:
        """What a streamed answer begins with."""
        ...

    def piece(self, speech: Speech, text: str) -> bytes:
        """A piece of what is said."""
        ...

    def ending(self, reason: str, usage: Mapping[str, int]) -> bytes:
        """What a streamed answer ends with."""
        ...


class AnthropicVoice:
    """Anthropic's Messages."""

    kind = b"text/event-stream"

    def whole(self, speech: Speech, reason: str, usage: Mapping[str, int], model: str) -> Any:
        """A whole answer, as a value."""
        ended = _reason(speech, reason) or "pause_turn"
        value = provider_answers.anthropic(speech.text, calls=_calls(speech), stop_reason=ended, model=model)
        for block in value["content"]:
            if speech.call is not None and block["type"] == "tool_use":
                block["id"] = speech.call.id
        return {**value, "usage": _anthropic_usage(usage)}

    def opening(self, speech: Speech, usage: Mapping[str, int], model: str) -> bytes:
        """What a streamed answer begins with."""
        message = {**self.whole(Speech(""), "stop", usage, model), "content": [], "stop_reason": None}
        block: dict[str, Any] = {"type": "text", "text": ""}
        if speech.call is not None:
            block = {"type": "tool_use", "id": speech.call.id, "name": speech.call.name, "input": {}}
        events = ({"type": "message_start", "message": message}, {"type": "ping"})
        begun = {"type": "content_block_start", "index": 0, "content_block": block}
        return b"".join([provider_answers.anthropic_event(event) for event in (*events, begun)])

    def piece(self, speech: Speech, text: str) -> bytes:
        """A piece of what is said."""
        delta = {"type": "text_delta", "text": text}
        if speech.call is not None:
            delta = {"type": "input_json_delta", "partial_json": text}
        return provider_answers.anthropic_event({"type": "content_block_delta", "index": 0, "delta": delta})

    def ending(self, reason: str, usage: Mapping[str, int]) -> bytes:
        """What a streamed answer ends with."""
        delta = {"stop_reason": _REASONS[reason] or "pause_turn", "stop_sequence": None}
        events = (
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": delta, "usage": _anthropic_usage(usage)},
            {"type": "message_stop"},
        )
        return b"".join([provider_answers.anthropic_event(event) for event in events])


class BedrockVoice:
    """Bedrock's Converse."""

    kind = b"application/vnd.amazon.eventstream"

    def whole(self, speech: Speech, reason: str, usage: Mapping[str, int], model: str) -> Any:  # noqa: ARG002
        """A whole answer, as a value; it does not name its model."""
        ended = _reason(speech, reason) or "malformed_model_output"
        value = provider_answers.converse(speech.text, calls=_calls(speech), stop_reason=ended)
        for block in value["output"]["message"]["content"]:
            if speech.call is not None and "toolUse" in block:
                block["toolUse"]["toolUseId"] = speech.call.id
        return {**value, "usage": _bedrock_usage(usage)}

    def opening(self, speech: Speech, usage: Mapping[str, int], model: str) -> bytes:  # noqa: ARG002
        """What a streamed answer begins with."""
        begun = provider_answers.event_message("messageStart", {"role": "assistant"})
        if speech.call is None:
            return begun
        start = {"toolUse": {"toolUseId": speech.call.id, "name": speech.call.name}}
        return begun + provider_answers.event_message("contentBlockStart", {"start": start, "contentBlockIndex": 0})

    def piece(self, speech: Speech, text: str) -> bytes:
        """A piece of what is said."""
        delta: dict[str, Any] = {"text": text} if speech.call is None else {"toolUse": {"input": text}}
        return provider_answers.event_message("contentBlockDelta", {"delta": delta, "contentBlockIndex": 0})

    def ending(self, reason: str, usage: Mapping[str, int]) -> bytes:
        """What a streamed answer ends with."""
        event = provider_answers.event_message
        stopped = event("contentBlockStop", {"contentBlockIndex": 0})
        stopped += event("messageStop", {"stopReason": _REASONS[reason] or "malformed_model_output"})
        return stopped + event("metadata", {"usage": _bedrock_usage(usage), "metrics": {"latencyMs": 0}})


VOICES: Mapping[str, Voice] = {"messages": AnthropicVoice(), "converse": BedrockVoice()}
"""By the name of the wire."""

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "abort": ""}
"""Our word for the end of an answer -> theirs; each has its own for an abort."""


def _reason(speech: Speech, reason: str) -> str:
    return _REASONS["tool_calls" if speech.call is not None and reason == "stop" else reason]


def _calls(speech: Speech) -> list[tuple[str, dict[str, Any]]]:
    call = speech.call
    return [] if call is None else [(call.name, msgspec.json.decode(call.arguments))]


def _anthropic_usage(usage: Mapping[str, int]) -> dict[str, int]:
    return {
        "input_tokens": usage["prompt"] - usage["cached"],
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage["cached"],
        "output_tokens": usage["completion"],
    }


def _bedrock_usage(usage: Mapping[str, int]) -> dict[str, int]:
    return {
        "inputTokens": usage["prompt"] - usage["cached"],
        "outputTokens": usage["completion"],
        "totalTokens": usage["prompt"] + usage["completion"],
        "cacheReadInputTokens": usage["cached"],
        "cacheWriteInputTokens": 0,
    }
