"""One answer to many calls: each part to its call, by index."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec

from aurora_swarm.errors import AbortedError, BadResponseError, CallError, RequestRejectedError
from aurora_swarm.transports.wire import raise_if_aborted
from aurora_swarm.values.call import Call
from aurora_swarm.values.reply import Reply, Usage


class Part(msgspec.Struct, frozen=True):
    """One choice of an answer.

    Args:
        index: The call that it answers, counted from 0.
        text: What the model said.
        finish_reason: Why it ended.
    """

    index: int
    text: str
    finish_reason: str | None


def refuse_unequal(calls: Sequence[Call]) -> None:
    """Refuse calls that cannot share a request.

    Raises:
        RequestRejectedError: They differ in model, sampling or schema.
    """
    first = calls[0]
    if any(c.model != first.model or c.sampling != first.sampling or c.schema != first.schema for c in calls):
        raise RequestRejectedError("calls that share a request must have equal model, sampling and schema")


def size_of(call: Call) -> int:
    """Characters that a call's prompt has, by which its share of the tokens is told."""
    return sum(len(message.content) for message in call.messages)


def replies_of(parts: Sequence[Part], sizes: Sequence[int], usage: Usage, model: str) -> list[Reply | CallError]:
    """The answers in the order of the calls, whatever the order of the choices.

    The tokens, which servers count for the whole request, are shared out by length: those of the prompts by `sizes`,
    those of the answers by their texts. The shares add up to the whole over the parts that came.

    Args:
        parts: The choices as they came.
        sizes: Length of each call's prompt; one entry per call.
        usage: What the server counted.
        model: The model that answered.

    Returns:
        One entry per call; a choice that is missing or was aborted is an error in its place.

    Raises:
        BadResponseError: Choices whose index is doubled or out of range: none of them can be trusted.
    """
    places = by_place([part.index for part in parts], len(sizes))
    prompts = _shares(usage.prompt_tokens, [sizes[part.index] for part in parts])
    cached = _shares(usage.cached_tokens, [sizes[part.index] for part in parts])
    completions = _shares(usage.completion_tokens, [len(part.text) for part in parts])

    def reply(index: int) -> Reply | CallError:
        place = places.get(index)
        if place is None:
            return BadResponseError("the answer lacks this choice")
        return _reply(parts[place], Usage(prompts[place], completions[place], cached[place]), model)

    return [reply(index) for index in range(len(sizes))]


def by_place(indices: Sequence[int], count: int) -> dict[int, int]:
    """Index -> position in the answer.

    Raises:
        BadResponseError: An index is doubled or out of range.
    """
    places = {index: place for place, index in enumerate(indices)}
    if len(places) != len(indices) or any(not 0 <= index < count for index in places):
        raise BadResponseError(f"the indices of the answer do not fit the {count} parts that were sent")
    return places


def _reply(part: Part, usage: Usage, model: str) -> Reply | CallError:
    try:
        raise_if_aborted(part.finish_reason)
    except AbortedError as error:
        return error
    return Reply(part.text, part.finish_reason or "stop", usage, model)


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """Whole shares in proportion to the weights, each counted once more than its length; they add up to `total`."""
    if not total:
        return [0] * len(weights)
    marks = list(accumulate((weight + 1 for weight in weights), initial=0))
    return [total * end // marks[-1] - total * start // marks[-1] for start, end in pairwise(marks)]
