"""Bodies as hosted providers write them, for tests of whatever reads them and for servers that play one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aurora_swarm.testing.answers import encode

MODEL = "claude-test"
CALL_ID = "toolu_01"


def anthropic(
    text: str,
    *,
    prompt: str = "",
    calls: Sequence[tuple[str, dict[str, Any]]] = (),
    stop_reason: str = "",
    model: str = MODEL,
    cached: int = 0,
) -> dict[str, Any]:
    """Of ``/v1/messages``; a token is a word."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text or not calls else []
    blocks += [
        {"type": "tool_use", "id": f"{CALL_ID}{i}", "name": name, "input": arguments}
        for i, (name, arguments) in enumerate(calls)
    ]
    return {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": stop_reason or ("tool_use" if calls else "end_turn"),
        "stop_sequence": None,
        "usage": _anthropic_usage(prompt, text, cached),
    }


def anthropic_stream(message: Mapping[str, Any], *, piece: int = 5) -> bytes:
    """The same message as it is streamed, its texts and arguments in pieces of so many characters."""
    usage = {**message["usage"], "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "ping"},
    ]
    for index, block in enumerate(message["content"]):
        events += _anthropic_block(index, block, piece)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    ended = {"output_tokens": message["usage"]["output_tokens"]}
    events += [{"type": "message_delta", "delta": delta, "usage": ended}, {"type": "message_stop"}]
    return b"".join(anthropic_event(event) for event in events)


def anthropic_event(event: Mapping[str, Any]) -> bytes:
    """One event of a streamed message."""
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + encode(event) + b"\n\n"


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    """An error object of Anthropic's."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_0"}


def converse(
    text: str,
    *,
    prompt: str = "",
    calls: Sequence[tuple[str, dict[str, Any]]] = (),
    stop_reason: str = "",
    cached: int = 0,
) -> dict[str, Any]:
    """Of Bedrock's ``/converse``; a token is a word."""
    blocks: list[dict[str, Any]] = [{"text": text}] if text or not calls else []
    blocks += [
        {"toolUse": {"toolUseId": f"{CALL_ID}{i}", "name": name, "input": arguments}}
        for i, (name, arguments) in enumerate(calls)
    ]
    fresh, generated = len(prompt.split()) - cached, len(text.split())
    usage = {"inputTokens": fresh, "outputTokens": generated, "totalTokens": fresh + generated + cached}
    return {
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": stop_reason or ("tool_use" if calls else "end_turn"),
        "usage": {**usage, "cacheReadInputTokens": cached, "cacheWriteInputTokens": 0},
        "metrics": {"latencyMs": 12},
    }


def converse_stream(answer: Mapping[str, Any], *, piece: int = 5) -> bytes:
    """The same answer as it is streamed, its texts and arguments in pieces of so many characters."""
    messages = [event_message("messageStart", {"role": "assistant"})]
    for index, block in enumerate(answer["output"]["message"]["content"]):
        messages += _converse_block(index, block, piece)
    messages.append(event_message("messageStop", {"stopReason": answer["stopReason"]}))
    messages.append(event_message("metadata", {"usage": answer["usage"], "metrics": answer["metrics"]}))
    return b"".join(messages)


def event_message(event: str, payload: Mapping[str, Any], *, message_type: str = "event") -> bytes:
    """One message of Amazon's event stream.

    Args:
        event: The event's type, or the exception's.
        payload: Its JSON.
        message_type: ``event``, ``exception`` or ``error``.
    """
    headers = {":message-type": message_type, f":{message_type}-type": event, ":content-type": "application/json"}
    head = b"".join(_header(name, value) for name, value in headers.items())
    body = encode(payload)
    prelude = (16 + len(head) + len(body)).to_bytes(4, "big") + len(head).to_bytes(4, "big")
    message = prelude + _checksum(prelude) + head + body
    return message + _checksum(message)


def _anthropic_usage(prompt: str, text: str, cached: int) -> dict[str, int]:
    return {
        "input_tokens": len(prompt.split()) - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": len(text.split()),
    }


def _anthropic_block(index: int, block: Mapping[str, Any], piece: int) -> Iterable[dict[str, Any]]:
    if block["type"] == "text":
        begun, kind, field, text = {**block, "text": ""}, "text_delta", "text", block["text"]
    else:
        begun, kind, field = {**block, "input": {}}, "input_json_delta", "partial_json"
        text = encode(block["input"]).decode()
    yield {"type": "content_block_start", "index": index, "content_block": begun}
    for part in _pieces(text, piece):
        yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: part}}
    yield {"type": "content_block_stop", "index": index}


def _converse_block(index: int, block: Mapping[str, Any], piece: int) -> Iterable[bytes]:
    used, at = block.get("toolUse"), {"contentBlockIndex": index}
    if used is not None:
        start = {"toolUse": {"toolUseId": used["toolUseId"], "name": used["name"]}}
        yield event_message("contentBlockStart", {"start": start, **at})
    text = block["text"] if used is None else encode(used["input"]).decode()
    for part in _pieces(text, piece):
        delta = {"text": part} if used is None else {"toolUse": {"input": part}}
        yield event_message("contentBlockDelta", {"delta": delta, **at})
    yield event_message("contentBlockStop", at)


def _pieces(text: str, piece: int) -> list[str]:
    return [text[at : at + piece] for at in range(0, len(text), piece)]


def _header(name: str, value: str) -> bytes:
    written = value.encode()
    return bytes([len(name)]) + name.encode() + b"\x07" + len(written).to_bytes(2, "big") + written


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")
