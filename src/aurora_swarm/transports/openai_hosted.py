"""OpenAI itself: its chat completions, where they differ from what engines take."""

from __future__ import annotations

from typing import Any

import msgspec

from aurora_swarm.transports.openai_chat import ChatRequest, OpenAIChatWire, chat_request
from aurora_swarm.transports.wire import encoded
from aurora_swarm.values.call import Call

_STRICT = frozenset(
    (
        "$defs", "$ref", "additionalProperties", "anyOf", "const", "definitions", "description", "enum",
        "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum",
        "multipleOf", "pattern", "properties", "required", "title", "type",
    )
)  # fmt: skip


class OpenAIHostedWire(OpenAIChatWire):
    """``POST /v1/chat/completions`` of OpenAI's.

    The bound on tokens is ``max_completion_tokens``, since newer models refuse the older name. An answer is held to its
    schema strictly only where OpenAI can: it refuses a request whose schema leaves an object open or a property out of
    ``required``. Others are a wish, and validated.
    """

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return encoded(self.request(call, model))

    def request(self, call: Call, model: str) -> ChatRequest:
        """A call as a request, before it is written."""
        request = chat_request(call, model)
        request.max_tokens, request.max_completion_tokens = None, request.max_tokens
        if request.response_format is not None and call.schema is not None:
            request.response_format.json_schema.strict = is_strict(msgspec.json.decode(call.schema))
        return request


def is_strict(schema: Any) -> bool:
    """Whether OpenAI holds answers to a schema strictly.

    Source: https://platform.openai.com/docs/guides/structured-outputs
    """
    return isinstance(schema, dict) and schema.get("type") == "object" and _is_closed(schema)


def _is_closed(schema: Any) -> bool:
    if not isinstance(schema, dict) or not schema.keys() <= _STRICT:
        return False
    properties = schema.get("properties", {})
    if schema.get("type") == "object" or properties:
        named = set(schema.get("required", ()))
        if schema.get("additionalProperties") is not False or named != set(properties):
            return False
    parts = [schema["items"]] if "items" in schema else []
    parts += schema.get("anyOf", [])
    for name in ("properties", "$defs", "definitions"):
        parts += schema.get(name, {}).values()
    return all(map(_is_closed, parts))
