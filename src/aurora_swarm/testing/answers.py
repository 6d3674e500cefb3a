"""Bodies as model servers write them, for tests of whatever reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

MODEL = "test-model"


def encode(value: Any) -> bytes:
    """JSON."""
    return msgspec.json.encode(value)


def usage(prompt: str, completion: str, cached: int = 0) -> dict[str, Any]:
    """Tokens as OpenAI reports them; a token is a word here."""
    n_prompt, n_completion = len(prompt.split()), len(completion.split())
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_completion,
        "total_tokens": n_prompt + n_completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def generate(text: str) -> dict[str, Any]:
    """Of ``/generate``."""
    return {"response": text}


def chat(text: str | None, *, prompt: str = "", finish_reason: str | None = "stop") -> dict[str, Any]:
    """Of ``/v1/chat/completions``."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "model": MODEL,
        "choices": [choice],
        "usage": usage(prompt, text or ""),
    }


def chat_stream(
    pieces: Iterable[str], *, prompt: str = "", finish_reason: str | None = "stop", done: bool = True
) -> bytes:
    """Of a streamed ``/v1/chat/completions``: one event per piece, the finish, the usage, ``[DONE]``."""
    texts = list(pieces)
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": text}, None) for text in texts]
    if finish_reason is not None:
        deltas.append(({}, finish_reason))
    chunks = [_chunk([{"index": 0, "delta": delta, "finish_reason": reason}]) for delta, reason in deltas]
    chunks.append({**_chunk([]), "usage": usage(prompt, "".join(texts))})
    return events([encode(chunk) for chunk in chunks] + ([b"[DONE]"] if done else []))


def events(data: Iterable[bytes]) -> bytes:
    """Server-sent events."""
    return b"".join(b"data: " + each + b"\n\n" for each in data)


def completions(texts: Sequence[str], *, prompts: Sequence[str] = ()) -> dict[str, Any]:
    """Of ``/v1/completions`` for a list of prompts."""
    return {
        "id": "cmpl-0",
        "object": "text_completion",
        "model": MODEL,
        "choices": [{"index": i, "text": text, "finish_reason": "stop"} for i, text in enumerate(texts)],
        "usage": usage(" ".join(prompts), " ".join(texts)),
    }


def embeddings(vectors: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Of ``/v1/embeddings``."""
    data = [{"object": "embedding", "index": i, "embedding": list(vector)} for i, vector in enumerate(vectors)]
    return {"object": "list", "model": MODEL, "data": data, "usage": {"prompt_tokens": len(vectors)}}


def models(*names: str, max_model_len: int | None = 131_072, owned_by: str = "vllm") -> dict[str, Any]:
    """Of ``/v1/models``."""
    data = [{"id": name, "object": "model", "owned_by": owned_by, "max_model_len": max_model_len} for name in names]
    return {"object": "list", "data": data}


def error(message: str, code: int | str = 500) -> dict[str, Any]:
    """An error object as OpenAI's servers write it."""
    return {"error": {"message": message, "type": "Error", "param": None, "code": code}}


def vector_of(text: str) -> tuple[float, ...]:
    """A short vector that belongs to the text alone."""
    return (float(len(text)), float(sum(text.encode("utf-8", "surrogatepass")) % 997), 1.0)


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-0", "object": "chat.completion.chunk", "model": MODEL, "choices": choices}
