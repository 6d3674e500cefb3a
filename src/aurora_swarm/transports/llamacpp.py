"""What llama.cpp's own paths tell: its slots, and a prompt counted with its template."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aurora_swarm.transports.openai_chat import wire_messages
from aurora_swarm.transports.wire import decoded, encoded
from aurora_swarm.values.message import Message
from aurora_swarm.values.reply import EndpointInfo


class _Generation(msgspec.Struct):
    n_ctx: int | None = None


class _Props(msgspec.Struct):
    total_slots: int | None = None
    default_generation_settings: _Generation | None = None


class _Rendered(msgspec.Struct):
    prompt: str


class _Tokens(msgspec.Struct):
    tokens: list[msgspec.Raw]


_PROPS = msgspec.json.Decoder(_Props)
_RENDERED = msgspec.json.Decoder(_Rendered)
_TOKENS = msgspec.json.Decoder(_Tokens)


class PropsWire:
    """``GET /props``."""

    path = "/props"

    def decode(self, body: bytes, info: EndpointInfo) -> EndpointInfo:
        """What is known, with the slots and the context of one slot.

        Args:
            body: The body of a 2xx answer.
            info: What the list of models told.

        Raises:
            EndpointError: The body is not what llama.cpp writes.
        """
        props = decoded(_PROPS, body)
        generation = props.default_generation_settings
        context = (generation and generation.n_ctx) or info.max_context
        return msgspec.structs.replace(info, max_context=context, slots=props.total_slots)


class TemplateWire:
    """``POST /apply-template``, then ``POST /tokenize``."""

    template_path = "/apply-template"
    tokenize_path = "/tokenize"

    def encode(self, messages: Sequence[Message]) -> bytes:
        """The body that asks for the prompt of a conversation.

        Raises:
            RequestRejectedError: It holds text that no JSON can carry.
        """
        return encoded({"messages": wire_messages(messages)})

    def encode_prompt(self, body: bytes) -> bytes:
        """From the answer to the first request, the body of the second.

        Raises:
            EndpointError: The answer is not what llama.cpp writes.
        """
        prompt = decoded(_RENDERED, body).prompt
        return encoded({"content": prompt, "add_special": True, "parse_special": True})

    def decode(self, body: bytes) -> int:
        """Tokens of the prompt.

        Raises:
            EndpointError: The answer is not what llama.cpp writes.
        """
        return len(decoded(_TOKENS, body).tokens)
