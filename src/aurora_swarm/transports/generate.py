"""``POST /generate``: a prompt in, a text out."""

from __future__ import annotations

import msgspec

from aurora_swarm.errors import BadResponseError
from aurora_swarm.transports.prompt import as_prompt
from aurora_swarm.transports.wire import decoded, encoded, raise_reported
from aurora_swarm.values.call import Call
from aurora_swarm.values.reply import Reply


class _Request(msgspec.Struct, omit_defaults=True):
    prompt: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


class _Answer(msgspec.Struct):
    response: str | None = None
    text: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class GenerateWire:
    """``{"prompt"}`` -> ``{"response"}`` or ``{"text"}``.

    How tokens are picked is sent only where the call says it. The wire knows neither models nor schemas: a
    schema is a wish that stands in the prompt.
    """

    path = "/generate"
    names_model = False

    def encode(self, call: Call, model: str) -> bytes:  # noqa: ARG002 - the wire knows no models
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        s = call.sampling
        return encoded(_Request(as_prompt(call.messages), s.max_tokens, s.temperature, s.top_p, s.seed, s.stop))

    def decode(self, body: bytes) -> Reply:
        """The reply.

        Raises:
            ServerError: The body is an error object.
            BadResponseError: It holds neither ``response`` nor ``text``.
        """
        answer = decoded(_ANSWER, body)
        text = answer.response if answer.response is not None else answer.text
        if text is None:
            raise_reported(body)
            raise BadResponseError('the answer holds neither "response" nor "text"')
        return Reply(text)
