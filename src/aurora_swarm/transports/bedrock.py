"""Bedrock's Converse, whole and streamed.

Source of the wire: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from aurora_swarm.errors import (
    AbortedError,
    CallError,
    OverloadedError,
    RequestRejectedError,
    ServerError,
    TruncatedError,
)
from aurora_swarm.transports.event_stream import EventMessage, EventStreamParser
from aurora_swarm.transports.provider import split_system
from aurora_swarm.transports.tool_calls import PartialCalls, plain_id, told_apart, without_tools
from aurora_swarm.transports.wire import decoded, encoded
from aurora_swarm.values.call import Call, OfferedTool
from aurora_swarm.values.message import MALFORMED, Message, ToolCall
from aurora_swarm.values.reply import Reply, Usage

ANSWER = "give_final_answer"
"""The tool through which an answer by a schema comes. It is no tool of the agent's and never reaches one."""

_WRAPPED = "__answer__"
"""The field for answers that are no objects: arguments of a tool always are one."""

_POINT = {"cachePoint": {"type": "default"}}
_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_MARKED = ("anthropic.", "amazon.nova")
"""Families with prompt caching, as their ids name them; only the first one's tools can be marked too."""

_ABORTS = frozenset(("malformed_model_output", "malformed_tool_use"))
_BUSY = frozenset(("throttlingException", "serviceUnavailableException"))


class _Inference(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop_sequences: tuple[str, ...] = ()


class _Request(msgspec.Struct, omit_defaults=True, rename="camel"):
    messages: list[dict[str, Any]]
    system: list[dict[str, Any]] = []
    inference_config: _Inference | None = None
    tool_config: dict[str, Any] | None = None


class _Usage(msgspec.Struct, rename="camel"):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: Any = None


class _Block(msgspec.Struct, rename="camel"):
    text: str = ""
    tool_use: _ToolUse | None = None


class _Message(msgspec.Struct):
    content: list[_Block]


class _Output(msgspec.Struct):
    message: _Message


class _Answer(msgspec.Struct, rename="camel"):
    output: _Output
    stop_reason: str
    usage: _Usage | None = None


class _Delta(msgspec.Struct, rename="camel"):
    text: str = ""
    tool_use: _ToolUse | None = None


class _Event(msgspec.Struct, rename="camel"):
    content_block_index: int = 0
    start: _Delta | None = None
    delta: _Delta | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    message: str = ""


_ANSWER = msgspec.json.Decoder(_Answer)
_EVENT = msgspec.json.Decoder(_Event)


class BedrockWire:
    """``POST /model/{model}/converse`` and ``/converse-stream``.

    The tools and the system's text end in cache points where the model has prompt caching (Claude, Nova). An answer by
    a schema comes as the arguments of a tool `ANSWER` that the model must call, which works with every model that can
    be made to call tools. The wire knows no seed, and cannot forbid calls while tools are offered: with a tool choice
    of ``none`` and no schema a model may still call one.
    """

    path = "/model"
    names_model = True

    def route(self, model: str, *, streamed: bool) -> str:
        """Where to ask a model.

        Args:
            model: A model id, an inference profile or an ARN.
            streamed: Whether the answer is to come as it is generated.

        Raises:
            RequestRejectedError: No model is named.
        """
        if not model:
            raise RequestRejectedError("Bedrock is asked for a model by name", remedy="give a model id or a profile")
        return f"/model/{quote(model, safe='')}/{'converse-stream' if streamed else 'converse'}"

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body, which is the same for a streamed answer.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return encoded(_request(call, model))

    encode_stream = encode

    def decode(self, body: bytes) -> Reply:
        """The reply: the text of all blocks, what was called, tokens with the cached ones.

        Raises:
            AbortedError: The model wrote what the service could not read.
            ServerError: The body is an error object.
            BadResponseError: It is no answer.
        """
        answer = decoded(_ANSWER, body)
        text = "".join(block.text for block in answer.output.message.content)
        used = (block.tool_use for block in answer.output.message.content if block.tool_use is not None)
        return _reply(text, answer.stop_reason, map(_call, used), answer.usage)

    def decoder(self) -> BedrockStreamDecoder:
        """A fresh decoder for one streamed answer."""
        return BedrockStreamDecoder()


class BedrockStreamDecoder:
    """Puts together one streamed answer.

    Attributes:
        begun: Whether the model has said or called something.
    """

    def __init__(self) -> None:
        self.begun = False
        self._events = EventStreamParser()
        self._texts: list[str] = []
        self._calls = PartialCalls()
        self._usage: _Usage | None = None
        self._reason: str | None = None

    def feed(self, chunk: bytes) -> str:
        """The new text in a piece of the body.

        Raises:
            OverloadedError: A message says so.
            ServerError: A message is another exception of the service's.
            BadResponseError: The bytes are no such stream.
        """
        return "".join(map(self._take, self._events.feed(chunk)))

    def end(self, *, framed: bool) -> Reply:
        """The whole reply, once the body has ended.

        The stop reason must have come, and the tokens after it unless HTTP itself would have told of a cut.

        Args:
            framed: Whether the body declared its length or came in chunks.

        Raises:
            TruncatedError: The end is missing.
            AbortedError: The model wrote what the service could not read.
        """
        if self._reason is None or not (self._usage is not None or framed):
            raise TruncatedError(f"the stream ended after {sum(map(len, self._texts))} characters, without its end")
        return _reply("".join(self._texts), self._reason, self._calls.whole(), self._usage)

    def _take(self, message: EventMessage) -> str:
        event = decoded(_EVENT, message.payload or b"{}")
        if message.headers.get(":message-type", "event") != "event":
            raise _reported(message.headers, event.message)
        self._reason = event.stop_reason or self._reason
        self._usage = event.usage or self._usage
        for part in (event.start, event.delta):
            if part is not None and part.tool_use is not None:
                self.begun = True
                used = part.tool_use
                piece = used.input if isinstance(used.input, str) else ""
                self._calls.add(event.content_block_index, used.tool_use_id, used.name, piece)
        text = event.delta.text if event.delta is not None else ""
        if text:
            self.begun = True
            self._texts.append(text)
        return text


def _call(used: _ToolUse) -> ToolCall:
    return ToolCall(used.tool_use_id, used.name, used.input if isinstance(used.input, dict) else {})


def _reply(text: str, stop_reason: str, calls: Iterable[ToolCall], usage: _Usage | None) -> Reply:
    if stop_reason in _ABORTS:
        raise AbortedError(f"the model wrote what the service could not read ({stop_reason})")
    made = told_apart(calls)
    answers = [call for call in made if call.name == ANSWER]
    reason = _REASONS.get(stop_reason, stop_reason)
    if answers and len(answers) == len(made):
        return Reply(_answer_of(answers[0]), "stop" if reason == "tool_calls" else reason, _usage_of(usage))
    kept = tuple(call for call in made if call.name != ANSWER)  # an answer beside calls came too early
    return Reply(text, reason, _usage_of(usage), tool_calls=kept)


def _answer_of(call: ToolCall) -> str:
    """The answer's text; where it was cut off, what there is of it."""
    if MALFORMED in call.arguments:
        return str(call.arguments[MALFORMED])
    return encoded(call.arguments.get(_WRAPPED, call.arguments)).decode()


def _usage_of(usage: _Usage | None) -> Usage:
    """Tokens spent; Bedrock counts those from the cache and those written to it beside the prompt's."""
    if usage is None:
        return Usage()
    cached = usage.cache_read_input_tokens or 0
    return Usage(usage.input_tokens + (usage.cache_write_input_tokens or 0) + cached, usage.output_tokens, cached)


def _reported(headers: Mapping[str, str], message: str) -> CallError:
    kind = headers.get(":exception-type") or headers.get(":error-code") or "an error"
    problem = f"the server reports: {message or kind}"
    if kind in _BUSY:
        return OverloadedError(problem)
    return RequestRejectedError(problem) if kind == "validationException" else ServerError(problem)


def _request(call: Call, model: str) -> _Request:
    s = call.sampling
    system, said = split_system(call.messages if call.tools else without_tools(call.messages))
    texts: list[dict[str, Any]] = [{"text": text} for text in system if text]
    messages = _messages(said)
    inference = _Inference(s.max_tokens, s.temperature, s.top_p, s.stop)
    if any(family in model for family in _MARKED):  # others refuse the whole request for a mark
        texts += [_POINT] if texts else []
        messages[-1]["content"] += [_POINT] if call.turns_left > 0 else []
    return _Request(
        messages,
        texts,
        inference if inference != _Inference() else None,
        _tool_config(call, [_POINT] if _MARKED[0] in model else []),
    )


def _tool_config(call: Call, marks: list[dict[str, Any]]) -> dict[str, Any] | None:
    tools = list(map(_tool, call.tools))
    if call.schema is not None:
        tools.append(_answer_tool(call.schema))
    if not tools:
        return None
    choice = _choice(call)
    return {"tools": tools + marks, **({"toolChoice": choice} if choice else {})}


def _choice(call: Call) -> dict[str, Any] | None:
    if call.schema is not None and (not call.tools or call.tool_choice == "none"):
        return {"tool": {"name": ANSWER}}
    if call.schema is not None or call.tool_choice == "required":
        return {"any": {}}
    return None


def _tool(tool: OfferedTool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"toolSpec": {"name": tool.name, **described, "inputSchema": {"json": tool.parameters}}}


def _answer_tool(schema: msgspec.Raw) -> dict[str, Any]:
    """The tool whose arguments are the answer; a schema of anything but an object stands in a field of its own."""
    value = msgspec.json.decode(schema)
    if not (isinstance(value, dict) and value.get("type") == "object"):
        value = {"type": "object", "properties": {_WRAPPED: value}, "required": [_WRAPPED], **_definitions(value)}
    text = "Gives the final answer. Call it once nothing else has to be called."
    return {"toolSpec": {"name": ANSWER, "description": text, "inputSchema": {"json": value}}}


def _definitions(schema: Any) -> dict[str, Any]:
    """What references point to stays at the root."""
    return {"$defs": schema.pop("$defs")} if isinstance(schema, dict) and "$defs" in schema else {}


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation; what a user and tools say in a row is one message, as the roles must alternate."""
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
        result = {"toolUseId": plain_id(message.tool_call_id), "content": [{"text": message.content}]}
        yield {"toolResult": result}
        return
    if message.content or not message.tool_calls:
        yield {"text": message.content}
    for call in message.tool_calls:
        yield {"toolUse": {"toolUseId": plain_id(call.id), "name": call.name, "input": call.arguments}}
