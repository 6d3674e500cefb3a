"""OpenAI chat completions, whole and streamed: vLLM, SGLang, llama.cpp and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aurora_swarm.errors import BadResponseError, TruncatedError
from aurora_swarm.transports.sse import SseParser
from aurora_swarm.transports.tool_calls import PartialCalls, arguments_of, told_apart
from aurora_swarm.transports.wire import WireUsage, decoded, encoded, raise_if_aborted, raise_reported, usage_of
from aurora_swarm.values.call import Call, OfferedTool
from aurora_swarm.values.message import Message, ToolCall
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


class _Described(msgspec.Struct):
    name: str
    description: str
    parameters: msgspec.Raw


class _Offered(msgspec.Struct):
    function: _Described
    type: str = "function"


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
    max_completion_tokens: int | None = None
    tools: list[_Offered] | None = None
    tool_choice: str = ""
    stream: bool = False
    stream_options: _StreamOptions | None = None


class _CalledFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Called(msgspec.Struct):
    function: _CalledFunction
    id: str | None = None
    index: int | None = None


class Said(msgspec.Struct, frozen=True):
    """What the model said, and what it called."""

    content: str | None = None
    tool_calls: list[_Called] | None = None


class _Choice(msgspec.Struct):
    message: Said
    index: int = 0
    finish_reason: str | None = None


class ChatAnswer(msgspec.Struct):
    """A whole answer, to one conversation or to several."""

    choices: list[_Choice]
    usage: WireUsage | None = None
    model: str | None = None


class _ChunkChoice(msgspec.Struct):
    delta: Said = Said()
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
        self._kinds: dict[tuple[int, int, int, str, str], tuple[Call, bytes]] = {}

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        kind = id(call.sampling), id(call.schema), id(call.tools), call.tool_choice, model
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds_with(kind, call, model)
        return b"".join((_HEAD, encoded(wire_messages(call.messages)), known[1]))

    def _kinds_with(self, kind: tuple[int, int, int, str, str], call: Call, model: str) -> tuple[Call, bytes]:
        """What follows the messages of one kind of call, remembered with what gave the kind its identity."""
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        alike = _but_for_messages(call, model)
        known = self._kinds[kind] = alike, _rest(alike, model)
        return known

    def encode_stream(self, call: Call, model: str) -> bytes:
        """The request's body for a streamed answer, its usage included.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        request = self.request(call, model)
        request.stream = True
        request.stream_options = _StreamOptions()
        return encoded(request)

    def request(self, call: Call, model: str) -> ChatRequest:
        """A call as a request, before it is written."""
        return chat_request(call, model)

    def decode(self, body: bytes) -> Reply:
        """The reply. Content ``null`` is an empty text; a finish reason left out of a whole answer is ``stop``.

        With tool calls the reason is ``tool_calls`` also where the server says ``stop``, as some do.

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
        said = choice.message
        if said.tool_calls:
            return Reply(
                said.content or "",
                _reason_of_calls(reason),
                usage_of(answer.usage),
                answer.model or "",
                tool_calls=tool_calls_of(said),
            )
        return Reply(said.content or "", reason, usage_of(answer.usage), answer.model or "")

    def decoder(self) -> ChatStreamDecoder:
        """A fresh decoder for one streamed answer."""
        return ChatStreamDecoder()


class ChatStreamDecoder:
    """Puts together one streamed chat completion.

    Attributes:
        begun: Whether the model has said or called something.
    """

    def __init__(self) -> None:
        self.begun = False
        self._events = SseParser()
        self._calls = PartialCalls()
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
        calls = self._calls.whole()
        reason = _reason_of_calls(self._finish_reason) if calls else self._finish_reason
        return Reply("".join(self._texts), reason, self._usage, self._model, tool_calls=calls)

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
            self.begun = True
            self._texts.append(text)
        return text

    def _said(self, choice: _ChunkChoice) -> str:
        if choice.index != 0:
            raise BadResponseError(f"one choice was asked for, number {choice.index} came")
        self._finish_reason = choice.finish_reason or self._finish_reason
        for piece in choice.delta.tool_calls or ():
            self.begun = True
            function = piece.function
            arguments = function.arguments or ""
            text = arguments if isinstance(arguments, str) else encoded(arguments).decode()
            self._calls.add(piece.index, piece.id or "", function.name or "", text)
        return choice.delta.content or ""


def tool_calls_of(said: Said) -> tuple[ToolCall, ...]:
    """The calls of a whole answer."""

    def call(called: _Called) -> ToolCall:
        arguments = called.function.arguments or ""
        read = arguments_of(arguments) if isinstance(arguments, str) else arguments
        return ToolCall(called.id or "", called.function.name or "", read)

    return told_apart(map(call, said.tool_calls or ()))


def _reason_of_calls(reason: str) -> str:
    return "tool_calls" if reason in {"stop", "function_call"} else reason


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
_MOST_KINDS = 64
"""Kinds of calls remembered: the turns of a batch's agents are of two or three, interleaved."""


def _but_for_messages(call: Call, model: str) -> Call:
    return Call((), model, call.sampling, call.schema, tools=call.tools, tool_choice=call.tool_choice)


def _rest(call: Call, model: str) -> bytes:
    """What follows the messages: equal for all calls of one kind, so written once."""
    return encoded(chat_request(call, model))[len(_HEAD) + len(b"[]") :]


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
        None,
        _offered(call.tools),
        call.tool_choice if call.tools and call.tool_choice != "auto" else "",
    )


def _offered(tools: Sequence[OfferedTool]) -> list[_Offered] | None:
    return [_Offered(_Described(tool.name, tool.description, tool.parameters)) for tool in tools] or None
