"""vLLM's batch of chats: many conversations in one request, each with the server's own chat template."""

from __future__ import annotations

from collections.abc import Sequence

from aurora_swarm.errors import CallError
from aurora_swarm.transports.openai_chat import ANSWER, chat_request, wire_messages
from aurora_swarm.transports.parts import Part, refuse_unequal, replies_of, size_of
from aurora_swarm.transports.wire import decoded, encoded, raise_reported, usage_of
from aurora_swarm.values.call import Call
from aurora_swarm.values.reply import Reply


class ChatBatchWire:
    """``POST /v1/chat/completions/batch``: ``messages`` is a list of conversations, a choice's ``index`` names its own.

    The server renders each conversation as it does for a single request. It takes no tools and does not stream.
    """

    path = "/v1/chat/completions/batch"

    def encode(self, calls: Sequence[Call], model: str) -> bytes:
        """The request's body.

        Args:
            calls: At least one; equal in model, sampling and schema.
            model: The model meant.

        Raises:
            RequestRejectedError: The calls differ, or hold text that no JSON can carry.
        """
        refuse_unequal(calls)
        request = chat_request(calls[0], model)
        request.messages = [wire_messages(call.messages) for call in calls]
        return encoded(request)

    def decode(self, body: bytes, calls: Sequence[Call]) -> list[Reply | CallError]:
        """The answers in the order of `calls`; see `replies_of`.

        Args:
            body: The body of a 2xx answer.
            calls: What was sent.

        Raises:
            ServerError: The body is an error object.
            BadResponseError: It is no answer, or its choices cannot be told apart.
        """
        answer = decoded(ANSWER, body)
        if not answer.choices:
            raise_reported(body)
        parts = [Part(c.index, c.message.content or "", c.finish_reason) for c in answer.choices]
        return replies_of(parts, [size_of(c) for c in calls], usage_of(answer.usage), answer.model or "")
