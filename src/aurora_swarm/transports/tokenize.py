"""vLLM's tokenizer: a conversation counted with its chat template."""

from __future__ import annotations

from typing import Any

import msgspec

from aurora_swarm.transports.openai_chat import wire_messages
from aurora_swarm.transports.wire import decoded, encoded
from aurora_swarm.values.call import Call


class _Request(msgspec.Struct, omit_defaults=True):
    messages: list[Any]
    model: str = ""


class _Answer(msgspec.Struct):
    count: int


_ANSWER = msgspec.json.Decoder(_Answer)


class TokenizeWire:
    """``POST /tokenize``."""

    path = "/tokenize"

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return encoded(_Request(wire_messages(call.messages), model))

    def decode(self, body: bytes) -> int:
        """Tokens of the prompt.

        Raises:
            EndpointError: There is no count in it.
        """
        return decoded(_ANSWER, body).count
