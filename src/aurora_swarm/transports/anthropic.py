"""Anthropic's Messages, whole and streamed.

Source of the wire: https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from aurora_swarm.errors import AbortedError, BadResponseError, CallError, OverloadedError, ServerError, TruncatedError
from aurora_swarm.transports.provider import DEFAULT_MAX_TOKENS, constrainable, split_system
from aurora_swarm.transports.sse import SseParser
from aurora_swarm.transports.tool_calls import PartialCalls, plain_id, told_apart, without_tools
from aurora_swarm.transports.wire import decoded, encoded
from aurora_swarm.values.call import Call, OfferedTool
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply, Usage

VERSION = "2023-06-01"
"""Of the API, as its header names it."""

_MARK = {"type": "ephemeral"}
_CHOICES = {"auto": None, "required": {"type": "any"}, "none": {"type": "none"}}
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_BUSY = frozenset(("overloaded_error", "rate_limit_error"))


class _Request(msgspec.Struct, omit_defaults=True):
    model: str
    messages: list[dict[str, Any]]
    max_tokens: int
    system: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    tool_choice: dict[str, str] | None = None
    output_config: dict[str, Any] | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()
    cache_control: dict[str, str] | None = None
    stream: bool = False


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Usage | None = None
    model: str = ""


class _Started(msgspec.Struct):
    usage: _Usage | None = None
    model: str = ""


class _Delta(msgspec.Struct):
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Started | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: _Error | None = None


_ANSWER = msgspec.json.Decoder(_Answer)
_EVENT = msgspec.json.Decoder(_Event)


class AnthropicWire:
    """``POST /v1/messages``.

    What all agents share comes first and is marked for the provider's cache: the tools, the system's text. Where the
    agent has turns left the end of the conversation is marked too, because its next turn begins with it.
    The wire knows no seed. An answer is constrained to a schema by ``output_config``, as far as the API can; see
    `aurora_swarm.transports.provider.constrainable`.
    """

    path = "/v1/messages"
    names_model = True

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return encoded(_request(call, model))

    def encode_stream(self, call: Call, model: str) -> bytes:
        """The request's body for a streamed answer.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        request = _request(call, model)
        request.stream = True
        return encoded(request)

    def decode(self, body: bytes) -> Reply:
        """The reply: the text of all blocks, what was called, tokens with the cached ones.

        Raises:
            ServerError: The body is an error object.
            BadResponseError: It is no message, or does not say why it ended.
        """
        answer = decoded(_ANSWER, body)
        if answer.stop_reason is None:
            raise BadResponseError("the answer does not say why it ended")
        text = "".join(block.text for block in answer.content if block.type == "text")
        used = (block for block in answer.content if block.type == "tool_use")
        calls = told_apart(ToolCall(block.id, block.name, block.input) for block in used)
        return Reply(text, reason_of(answer.stop_reason), _usage_of(answer.usage), answer.model, tool_calls=calls)

    def decoder(self) -> AnthropicStreamDecoder:
        """A fresh decoder for one streamed answer."""
        return AnthropicStreamDecoder()


class AnthropicStreamDecoder:
    """Puts together one streamed message.

    Attributes:
        begun: Whether the model has said or called something.
    """

    def __init__(self) -> None:
        self.begun = False
        self._events = SseParser()
        self._texts: list[str] = []
        self._calls = PartialCalls()
        self._usage = _Usage()
        self._model = ""
        self._reason: str | None = None
        self._ended = False

    def feed(self, chunk: bytes) -> str:
        """The new text in a piece of the body.

        Raises:
            OverloadedError: An event says so.
            ServerError: An event is another error.
            BadResponseError: An event is none of a message.
        """
        return "".join(map(self._take, self._events.feed(chunk)))

    def end(self, *, framed: bool) -> Reply:  # noqa: ARG002 - a message always tells its own end
        """The whole reply, once the body has ended.

        Raises:
            TruncatedError: The event that ends a message is missing.
        """
        if not self._ended or self._reason is None:
            raise TruncatedError(f"the stream ended after {sum(map(len, self._texts))} characters, without its end")
        reason = reason_of(self._reason)
        usage = _usage_of(self._usage)
        return Reply("".join(self._texts), reason, usage, self._model, tool_calls=self._calls.whole())

    def _take(self, data: bytes) -> str:
        event = decoded(_EVENT, data)
        if event.error is not None:
            raise _reported(event.error)
        self._ended = self._ended or event.type == "message_stop"
        if event.message is not None:
            self._model = event.message.model
            self._count(event.message.usage)
        self._count(event.usage)
        if event.content_block is not None and event.content_block.type == "tool_use":
            self.begun = True
            self._calls.add(event.index, event.content_block.id, event.content_block.name, "")
        return self._said(event.index, event.delta) if event.delta is not None else ""

    def _said(self, index: int, delta: _Delta) -> str:
        self._reason = delta.stop_reason or self._reason
        if delta.partial_json:
            self._calls.add(index, "", "", delta.partial_json)
        if delta.text:
            self.begun = True
            self._texts.append(delta.text)
        return delta.text

    def _count(self, told: _Usage | None) -> None:
        """Later events tell sums, and leave out what has not changed."""
        for name in _Usage.__struct_fields__:
            count = getattr(told, name, None)
            if count is not None:
                setattr(self._usage, name, count)


def reason_of(stop_reason: str) -> str:
    """A provider's reason as a reply's.

    Raises:
        AbortedError: It is one by which a turn stands still unfinished.
    """
    if stop_reason == "pause_turn":
        raise AbortedError("the provider paused in the middle of the answer")
    return _REASONS.get(stop_reason, stop_reason)


def _usage_of(usage: _Usage | None) -> Usage:
    """Tokens spent; Anthropic counts those from the cache and those written to it beside the prompt's."""
    if usage is None:
        return Usage()
    cached = usage.cache_read_input_tokens or 0
    prompt = (usage.input_tokens or 0) + (usage.cache_creation_input_tokens or 0) + cached
    return Usage(prompt, usage.output_tokens or 0, cached)


def _reported(error: _Error) -> CallError:
    problem = f"the server reports: {error.message or error.type}"
    return OverloadedError(problem) if error.type in _BUSY else ServerError(problem)


def _request(call: Call, model: str) -> _Request:
    s = call.sampling
    system, said = split_system(call.messages if call.tools else without_tools(call.messages))
    schema = constrainable(call.schema) if call.schema is not None else None
    return _Request(
        model,
        _messages(said),
        DEFAULT_MAX_TOKENS if s.max_tokens is None else s.max_tokens,
        _marked([{"type": "text", "text": text} for text in system if text]),
        _marked(list(map(_tool, call.tools))),
        _CHOICES[call.tool_choice] if call.tools else None,
        {"format": {"type": "json_schema", "schema": schema}} if schema is not None else None,
        s.temperature,
        s.top_p,
        s.stop,
        _MARK if call.turns_left > 0 else None,
    )


def _marked(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With a mark up to which the provider caches."""
    if blocks:
        blocks[-1]["cache_control"] = _MARK
    return blocks


def _tool(tool: OfferedTool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation; what a user and tools say in a row is one message, as the API wants the answers to calls."""
    sent: list[dict[str, Any]] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(_blocks(message))
        if sent and sent[-1]["role"] == role:
            sent[-1]["content"] += blocks
        else:
            sent.append({"role": role, "content": blocks})
    return sent


def _blocks(message: Message) -> Iterable[dict[str, Any]]:
    if message.role == "tool" and message.tool_call_id:
        yield {"type": "tool_result", "tool_use_id": plain_id(message.tool_call_id), "content": message.content}
        return
    if message.content or not message.tool_calls:
        yield {"type": "text", "text": message.content}
    for call in message.tool_calls:
        yield {"type": "tool_use", "id": plain_id(call.id), "name": call.name, "input": call.arguments}
