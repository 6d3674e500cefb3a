"""Finished work to the bodies and streams that engines write. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from aurora_swarm.testing import answers
from aurora_swarm.testing.fleet import providers
from aurora_swarm.testing.fleet.plan import ServerPlan, count_tokens
from aurora_swarm.testing.fleet.speech import Speech, speech_of
from aurora_swarm.testing.fleet.wires import Work

ECHO_CHARS = 400
"""Characters of a prompt that an answer repeats."""


class Done(msgspec.Struct, frozen=True):
    """One finished answer.

    Args:
        index: Its place in the request.
        speech: What it says.
        finish_reason: Why it ended.
        tokens: Tokens generated.
        cached: Prompt tokens that were cached.
    """

    index: int
    speech: Speech
    finish_reason: str
    tokens: int
    cached: int

    @property
    def text(self) -> str:
        """Its text."""
        return self.speech.text


def speech(work: Work, index: int, plan: ServerPlan) -> Speech:
    """What the answer to one of the prompts says."""
    return speech_of(work.scripted or plan.answer or work.said[index][-ECHO_CHARS:], work.tools, work.taken)


def body_of(work: Work, parts: Sequence[Done], plan: ServerPlan) -> Any:
    """The body of a whole answer, as a value.

    Args:
        work: What was asked for.
        parts: The answers in the order of the prompts.
        plan: Who answers.
    """
    if work.wire == "generate":
        return {"text": parts[0].text} if plan.engine == "sglang" else {"response": parts[0].text}
    if work.wire in providers.VOICES:
        (part,) = parts
        return providers.VOICES[work.wire].whole(part.speech, part.finish_reason, _tokens(work, parts), plan.model)
    if work.wire == "embeddings":
        return {**answers.embeddings([answers.vector_of(text) for text in work.said]), "model": plan.model}
    completion = work.wire == "completions"
    body: dict[str, Any] = {
        "id": "cmpl-0" if completion else "chatcmpl-0",
        "object": "text_completion" if completion else "chat.completion",
        "model": plan.model,
        "choices": [_completion_choice(part) if completion else _chat_choice(part) for part in parts],
        "usage": usage_of(work, parts),
    }
    if plan.engine == "llamacpp":
        cached = sum(part.cached for part in parts)
        body["timings"] = {"cache_n": cached, "prompt_n": body["usage"]["prompt_tokens"] - cached}
    return body


def _chat_choice(part: Done) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": part.text}
    call = part.speech.call
    if call is None:
        return {"index": part.index, "message": message, "finish_reason": part.finish_reason}
    function = {"name": call.name, "arguments": call.arguments}
    message |= {"content": None, "tool_calls": [{"id": call.id, "type": "function", "function": function}]}
    return {"index": part.index, "message": message, "finish_reason": _reason(part)}


def _reason(part: Done) -> str:
    return "tool_calls" if part.speech.call is not None and part.finish_reason == "stop" else part.finish_reason


def _completion_choice(part: Done) -> dict[str, Any]:
    return {"index": part.index, "text": part.text, "finish_reason": part.finish_reason}


def usage_of(work: Work, parts: Sequence[Done]) -> dict[str, Any]:
    """Tokens of a whole request."""
    tokens = _tokens(work, parts)
    return {
        "prompt_tokens": tokens["prompt"],
        "completion_tokens": tokens["completion"],
        "total_tokens": tokens["prompt"] + tokens["completion"],
        "prompt_tokens_details": {"cached_tokens": tokens["cached"]},
    }


def _tokens(work: Work, parts: Sequence[Done]) -> dict[str, int]:
    return {
        "prompt": sum(count_tokens(text) for text in work.prompts),
        "completion": sum(part.tokens for part in parts),
        "cached": sum(part.cached for part in parts),
    }


def counted(work: Work, plan: ServerPlan) -> Any:
    """The body of what is answered without generating: a count of tokens, or a prompt as the engine sees it."""
    if work.wire == "template":
        return {"prompt": work.prompts[0]}
    count = count_tokens(work.prompts[0])
    if plan.engine == "llamacpp":
        return {"tokens": list(range(count))}
    return {"count": count, "max_model_len": plan.max_context, "tokens": list(range(count))}


def stream_kind(work: Work) -> bytes | None:
    """The content type of a streamed answer, where it is not that of OpenAI's."""
    voice = providers.VOICES.get(work.wire)
    return voice.kind if voice is not None else None


def first_events(work: Work, part: Done, plan: ServerPlan) -> bytes:
    """What begins a streamed answer.

    Args:
        work: What was asked for.
        part: What will be said, with no tokens generated yet.
        plan: Who answers.
    """
    voice, call = providers.VOICES.get(work.wire), part.speech.call
    if voice is not None:
        return voice.opening(part.speech, _tokens(work, [part]), plan.model)
    begun = _delta(plan, {"role": "assistant", "content": ""})
    if call is None:
        return begun
    function = {"name": call.name, "arguments": ""}
    return begun + _delta(plan, {"tool_calls": [{"index": 0, "id": call.id, "type": "function", "function": function}]})


def piece_events(work: Work, said: Speech, piece: str, plan: ServerPlan) -> bytes:
    """One token of a streamed answer, or several."""
    voice = providers.VOICES.get(work.wire)
    if voice is not None:
        return voice.piece(said, piece)
    if said.call is None:
        return _delta(plan, {"content": piece})
    return _delta(plan, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})


def last_events(work: Work, part: Done, plan: ServerPlan) -> bytes:
    """What ends a streamed answer: the finish, the usage where it was asked for, ``[DONE]``."""
    voice = providers.VOICES.get(work.wire)
    if voice is not None:
        return voice.ending(_reason(part), _tokens(work, [part]))
    ends = [_delta(plan, {}, _reason(part))]
    if work.counted:
        ends.append(_event(plan, [], usage_of(work, [part])))
    return b"".join([*ends, b"data: [DONE]\n\n"])


def _delta(plan: ServerPlan, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    return _event(plan, [{"index": 0, "delta": delta, "finish_reason": finish_reason}], None)


def _event(plan: ServerPlan, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
    value = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "model": plan.model, "choices": choices}
    return b"data: " + answers.encode(value if usage is None else {**value, "usage": usage}) + b"\n\n"
