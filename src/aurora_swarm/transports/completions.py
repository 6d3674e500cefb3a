"""OpenAI completions with a list of prompts: many calls in one request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from aurora_swarm.errors import AbortedError, BadResponseError, CallError, RequestRejectedError
from aurora_swarm.transports.openai_chat import ResponseFormat, response_format
from aurora_swarm.transports.prompt import as_prompt
from aurora_swarm.transports.wire import WireUsage, decoded, encoded, raise_if_aborted, raise_reported, usage_of
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


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: WireUsage | None = None
    model: str | None = None


_ANSWER = msgspec.json.Decoder(_Answer)


class _Whole(NamedTuple):
    """What all parts of an answer have in common."""

    usages: list[Usage]
    model: str


class CompletionsWire:
    """``POST /v1/completions``. No chat template is applied: a call's messages are joined to one prompt."""

    path = "/v1/completions"

    def encode(self, calls: Sequence[Call], model: str) -> bytes:
        """The request's body.

        Args:
            calls: At least one; equal in sampling and schema.
            model: The model meant.

        Raises:
            RequestRejectedError: The calls differ, or hold text that no JSON can carry.
        """
        first = calls[0]
        if any(c.sampling != first.sampling or c.schema != first.schema for c in calls):
            raise RequestRejectedError("calls that share a request must have equal sampling and schema")
        s = first.sampling
        prompts = [as_prompt(c.messages) for c in calls]
        return encoded(
            _Request(
                prompts, model, s.max_tokens, s.temperature, s.top_p, s.seed, s.stop, response_format(first.schema)
            )
        )

    def decode(self, body: bytes, count: int) -> list[Reply | CallError]:
        """The answers in the order of the prompts, whatever the order of the choices.

        The tokens, which the server counts as a whole, are spread evenly over the choices that came.

        Args:
            body: The body of a 2xx answer.
            count: How many prompts were sent.

        Returns:
            One entry per prompt; a choice that is missing or was aborted is an error in its place.

        Raises:
            ServerError: The body is an error object.
            BadResponseError: Choices whose index is doubled or out of range: none of them can be trusted.
        """
        answer = decoded(_ANSWER, body)
        if not answer.choices:
            raise_reported(body)
        by_index = by_place([choice.index for choice in answer.choices], count)
        whole = _Whole(_spread(usage_of(answer.usage), len(answer.choices)), answer.model or "")
        return [_part(answer.choices, by_index.get(index), whole) for index in range(count)]


def by_place(indices: Sequence[int], count: int) -> dict[int, int]:
    """Index -> position in the answer.

    Raises:
        BadResponseError: An index is doubled or out of range.
    """
    places = {index: place for place, index in enumerate(indices)}
    if len(places) != len(indices) or any(not 0 <= index < count for index in places):
        raise BadResponseError(f"the indices of the answer do not fit the {count} parts that were sent")
    return places


def _part(choices: list[_Choice], place: int | None, whole: _Whole) -> Reply | CallError:
    if place is None:
        return BadResponseError("the answer lacks this choice")
    choice = choices[place]
    try:
        raise_if_aborted(choice.finish_reason)
    except AbortedError as error:
        return error
    return Reply(choice.text or "", choice.finish_reason or "stop", whole.usages[place], whole.model)


def _spread(usage: Usage, parts: int) -> list[Usage]:
    """Even shares that add up to the whole."""
    fields = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    return [Usage(*(total // parts + (place < total % parts) for total in fields)) for place in range(parts)]
