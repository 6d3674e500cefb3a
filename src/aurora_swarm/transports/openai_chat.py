"""OpenAI chat completions, whole and streamed: vLLM, SGLang, llama.cpp and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aurora_swarm.errors import BadResponseError, TruncatedError
from aurora_swarm.transports.sse import SseParser
from aurora_swarm.transports.wire import WireUsage, decoded, encoded, raise_if_aborted, raise_reported, usage_of
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import Reply, Usage


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct):
    id: str
    function: _Function
    type: str = "function"


class _AssistantMessage(msgspec.Struct):
    role: str
    content: str
    tool_calls: list[_ToolCall]


class _NamedSchema(msgspec.Struct):
    schema: msgspec.Raw
    name: str = "answer"
    strict: bool = True


class ResponseFormat(msgspec.Struct):
    """Constrains an answer to a JSON schema."""

    json_schema: _NamedSchema
    type: str = "json_schema"


class _StreamOptions(msgspec.Struct):
    include_usage: bool = True


class ChatRequest(msgspec.Struct, omit_defaults=True):
    """A request as it is written; `messages` holds what `wire_messages` gives."""

    messages: list[Any]
    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Said
    index: int = 0
    finish_reason: str | None = None


class ChatAnswer(msgspec.Struct):
    """A whole answer, to one conversation or to several."""

    choices: list[_Choice]
    usage: WireUsage | None = None
    model: str | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Said = _Said()
    index: int = 0
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice]
    usage: WireUsage | None = None
    model: str | None = None


ANSWER = msgspec.json.Decoder(ChatAnswer)
"""Reads a `ChatAnswer`."""
_CHUNK = msgspec.json.Decoder(_Chunk)


class OpenAIChatWire:
    """``POST /v1/chat/completions``."""

    path = "/v1/chat/completions"
    names_model = True

    def __init__(self) -> None:
        self._alike: tuple[Sampling, str] = (Sampling(), "")
        self._rest = _rest(*self._alike)

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        if call.schema is not None:
            return encoded(chat_request(call, model))
        alike = self._alike
        if call.sampling is not alike[0] or model != alike[1]:
            self._alike = (call.sampling, model)
            self._rest = _rest(call.sampling, model)
        return b"".join((_HEAD, encoded(wire_messages(call.messages)), self._rest))

    def encode_stream(self, call: Call, model: str) -> bytes:
        """The request's body for a streamed answer, its usage included.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        request = chat_request(call, model)
        request.stream = True
        request.stream_options = _StreamOptions()
        return encoded(request)

    def decode(self, body: bytes) -> Reply:
        """The reply. Content ``null`` is an empty text; a finish reason left out of a whole answer is ``stop``.

        Raises:
            AbortedError: The engine gave up.
            ServerError: The body is an error object.
            BadResponseError: It is anything but one choice.
        """
        try:
            answer = ANSWER.decode(body)
        except (ValueError, RecursionError):
            answer = decoded(ANSWER, body)  # which says what is wrong
        choices = answer.choices
        if len(choices) != 1 or choices[0].index != 0:
            raise_reported(body)
            raise BadResponseError(f"one choice was asked for, {len(choices)} came")
        choice = choices[0]
        reason = choice.finish_reason or "stop"
        if reason != "stop":
            raise_if_aborted(reason)
        return Reply(choice.message.content or "", reason, usage_of(answer.usage), answer.model or "")

    def decoder(self) -> ChatStreamDecoder:
        """A fresh decoder for one streamed answer."""
        return ChatStreamDecoder()


class ChatStreamDecoder:
    """Puts together one streamed chat completion."""

    def __init__(self) -> None:
        self._events = SseParser()
        self._texts: list[str] = []
        self._finish_reason: str | None = None
        self._usage = Usage()
        self._model = ""
        self._done = False

    def feed(self, chunk: bytes) -> str:
        """The new text in a piece of the body.

        Raises:
            ServerError: An event is an error object.
            BadResponseError: An event is no completion chunk.
        """
        return "".join(map(self._take, self._events.feed(chunk)))

    def end(self, *, framed: bool) -> Reply:
        """The whole reply, once the body has ended.

        A finish reason must have come, and the closing ``[DONE]`` too unless HTTP itself would have told of a cut.

        Args:
            framed: Whether the body declared its length or came in chunks.

        Raises:
            TruncatedError: The end is missing.
            AbortedError: The engine gave up.
        """
        raise_if_aborted(self._finish_reason)
        if self._finish_reason is None or not (self._done or framed):
            raise TruncatedError(f"the stream ended after {sum(map(len, self._texts))} characters, without its end")
        return Reply("".join(self._texts), self._finish_reason, self._usage, self._model)

    def _take(self, event: bytes) -> str:
        if event == b"[DONE]":
            self._done = True
            return ""
        chunk = decoded(_CHUNK, event)
        if chunk.usage is not None:
            self._usage = usage_of(chunk.usage)
        self._model = chunk.model or self._model
        text = "".join(map(self._said, chunk.choices))
        if not chunk.choices:
            raise_reported(event)
        elif text:
            self._texts.append(text)
        return text

    def _said(self, choice: _ChunkChoice) -> str:
        if choice.index != 0:
            raise BadResponseError(f"one choice was asked for, number {choice.index} came")
        self._finish_reason = choice.finish_reason or self._finish_reason
        return choice.delta.content or ""


def response_format(schema: msgspec.Raw | None) -> ResponseFormat | None:
    """The constraint for a schema, or None."""
    return ResponseFormat(_NamedSchema(schema)) if schema is not None else None


def wire_message(message: Message) -> Message | _AssistantMessage:
    """A message as OpenAI wants it.

    A tool's text that answers no call of the server's protocol is sent as a user's, unchanged.
    """
    if message.tool_calls:
        calls = [_ToolCall(c.id, _Function(c.name, encoded(c.arguments).decode())) for c in message.tool_calls]
        return _AssistantMessage(message.role, message.content, calls)
    if message.role == "tool" and not message.tool_call_id:
        return Message("user", message.content)
    return message


def wire_messages(messages: Sequence[Message]) -> list[Message | _AssistantMessage]:
    """A conversation as OpenAI wants it; what a user says in several messages in a row is sent as one.

    Some chat templates (Gemma, Mistral) refuse roles that do not alternate.
    """
    if len(messages) == 1:
        alone = messages[0]
        return [alone if alone.role == "user" else wire_message(alone)]
    sent: list[Message | _AssistantMessage] = []
    for message in map(wire_message, messages):
        last = sent[-1] if sent else None
        if isinstance(message, Message) and isinstance(last, Message) and last.role == message.role == "user":
            sent[-1] = Message("user", f"{last.content}\n\n{message.content}")
        else:
            sent.append(message)
    return sent


_HEAD = b'{"messages":'


def _rest(sampling: Sampling, model: str) -> bytes:
    """What follows the messages: equal for all calls of a pool, so written once."""
    return encoded(chat_request(Call((), model, sampling), model))[len(_HEAD) + len(b"[]") :]


def chat_request(call: Call, model: str) -> ChatRequest:
    """A call as a request."""
    s = call.sampling
    return ChatRequest(
        wire_messages(call.messages),
        model,
        s.max_tokens,
        s.temperature,
        s.top_p,
        s.seed,
        s.stop,
        response_format(call.schema),
    )
