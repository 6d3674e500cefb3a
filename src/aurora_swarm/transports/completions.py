"""OpenAI completions: bare prompts, one or many in a request, for models without a chat template."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from aurora_swarm.errors import CallError
from aurora_swarm.transports.openai_chat import ResponseFormat, response_format
from aurora_swarm.transports.parts import Part, refuse_unequal, replies_of, size_of
from aurora_swarm.transports.prompt import as_prompt
from aurora_swarm.transports.wire import WireUsage, decoded, encoded, raise_reported, usage_of
from aurora_swarm.values.call import Call
from aurora_swarm.values.reply import Reply, Usage


class _Request(msgspec.Struct, omit_defaults=True):
    prompt: list[str]
    model: str = ""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None


class _Choice(msgspec.Struct):
    index: int
    text: str | None = None
    finish_reason: str | None = None


class _Timings(msgspec.Struct):
    """llama.cpp's; only that it is there matters."""


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: WireUsage | None = None
    model: str | None = None
    timings: _Timings | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class CompletionsBatchWire:
    """``POST /v1/completions`` with a list. No chat template is applied: a call's messages are joined to one prompt."""

    path = "/v1/completions"

    def encode(self, calls: Sequence[Call], model: str) -> bytes:
        """The request's body.

        Args:
            calls: At least one; equal in model, sampling and schema.
            model: The model meant.

        Raises:
            RequestRejectedError: The calls differ, or hold text that no JSON can carry.
        """
        refuse_unequal(calls)
        s = calls[0].sampling
        prompts = [as_prompt(c.messages) for c in calls]
        wanted = response_format(calls[0].schema)
        return encoded(_Request(prompts, model, s.max_tokens, s.temperature, s.top_p, s.seed, s.stop, wanted))

    def decode(self, body: bytes, calls: Sequence[Call]) -> list[Reply | CallError]:
        """The answers in the order of `calls`; see `replies_of`.

        llama.cpp counts the tokens of the first prompt only, whatever the number of prompts: of several, nothing is
        known there.

        Args:
            body: The body of a 2xx answer.
            calls: What was sent.

        Raises:
            ServerError: The body is an error object.
            BadResponseError: It is no answer, or its choices cannot be told apart.
        """
        answer = decoded(_ANSWER, body)
        if not answer.choices:
            raise_reported(body)
        usage = Usage() if answer.timings is not None and len(calls) > 1 else usage_of(answer.usage)
        parts = [Part(c.index, c.text or "", c.finish_reason) for c in answer.choices]
        return replies_of(parts, [size_of(c) for c in calls], usage, answer.model or "")


class CompletionsWire:
    """``POST /v1/completions`` with one prompt, put to the model exactly as `CompletionsBatchWire` does."""

    path = "/v1/completions"
    names_model = True

    def encode(self, call: Call, model: str) -> bytes:
        """The request's body.

        Raises:
            RequestRejectedError: The call holds text that no JSON can carry.
        """
        return CompletionsBatchWire().encode((call,), model)

    def decode(self, body: bytes) -> Reply:
        """The reply.

        Raises:
            AbortedError: The engine gave up.
            ServerError: The body is an error object.
            BadResponseError: It is anything but one choice.
        """
        (part,) = CompletionsBatchWire().decode(body, (Call(()),))
        if isinstance(part, CallError):
            raise part
        return part
