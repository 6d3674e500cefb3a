"""Requests to work: what each path takes, and what is refused. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from aurora_swarm.testing import answers
from aurora_swarm.testing.fleet import providers
from aurora_swarm.testing.fleet.plan import ServerPlan, count_tokens

QUOTED_CHARS = 40
"""Characters of a prompt that a turn of a conversation quotes."""


class RefusedError(Exception):
    """A request that is answered with a 4xx.

    Args:
        status: HTTP status.
        message: What is wrong with it.
        code: OpenAI's code, where it has one.
    """

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    def body(self) -> bytes:
        """The body of the answer."""
        return answers.encode(answers.error(str(self), self.code or self.status))


class Work(msgspec.Struct, frozen=True):
    """What a request asks for.

    Args:
        wire: Which of the paths it came by.
        prompts: One for each answer, as the engine gets it.
        said: What each prompt's user said last; answers repeat it.
        allowed: Tokens of an answer at most; None for any number.
        model: The model asked for; empty for any.
        streamed: Whether the answer is streamed.
        counted: Whether a streamed answer ends with the usage.
        slot: The slot asked for; -1 for any.
        scripted: What is said in this turn, where the server's plan says so; empty where it does not.
        tools: Names of the tools that are offered by the server's own protocol.
        taken: Turns that the model has taken in the conversation.
    """

    wire: str
    prompts: Sequence[str]
    said: Sequence[str]
    allowed: int | None = None
    model: str = ""
    streamed: bool = False
    counted: bool = False
    slot: int = -1
    scripted: str = ""
    tools: frozenset[str] = frozenset()
    taken: int = 0


class _Piece(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Piece] | None = None


class _Options(msgspec.Struct):
    include_usage: bool = False


class _Asked(msgspec.Struct, kw_only=True):
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    stream: bool | None = None
    stream_options: _Options | None = None
    id_slot: int | None = None


class _Generate(_Asked):
    prompt: str | None = None
    text: str | None = None


class _Named(msgspec.Struct):
    name: str


class _Tool(msgspec.Struct):
    function: _Named


class _Chat(_Asked):
    messages: list[_Message]
    tools: list[_Tool] | None = None
    tool_choice: Any = None


class _Batch(_Asked):
    messages: list[list[_Message]]


class _Completions(_Asked):
    prompt: str | list[str]


class _Embeddings(_Asked):
    input: str | list[str]


class _Tokenize(_Asked):
    messages: list[_Message] | None = None
    prompt: str | None = None
    content: str | None = None


_Prompts = Callable[[Any], tuple[Sequence[str], Sequence[str]]]


def _said(message: _Message) -> str:
    content = message.content
    return content if isinstance(content, str) else "".join(piece.text for piece in content or ())


def _rendered(messages: Sequence[_Message]) -> str:
    return "".join([f"<|{message.role}|>{_said(message)}\n" for message in messages])


def _of_generate(body: _Generate) -> tuple[Sequence[str], Sequence[str]]:
    prompt = body.prompt if body.prompt is not None else body.text
    if prompt is None:
        raise RefusedError(422, "prompt: Field required")
    return (prompt,), (prompt,)


def _of_chat(body: _Chat) -> tuple[Sequence[str], Sequence[str]]:
    return (_rendered(body.messages),), (_said(body.messages[-1]) if body.messages else "",)


def _of_batch(body: _Batch) -> tuple[Sequence[str], Sequence[str]]:
    if body.stream or not all(body.messages):
        raise RefusedError(400, "a batch is not streamed, and no conversation in it is empty")
    return [_rendered(each) for each in body.messages], [_said(each[-1]) for each in body.messages]


def _of_completions(body: _Completions) -> tuple[Sequence[str], Sequence[str]]:
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    return prompts, prompts


def _of_embeddings(body: _Embeddings) -> tuple[Sequence[str], Sequence[str]]:
    texts = [body.input] if isinstance(body.input, str) else body.input
    return texts, texts


def _of_tokenize(body: _Tokenize) -> tuple[Sequence[str], Sequence[str]]:
    text = _rendered(body.messages) if body.messages is not None else body.prompt or body.content or ""
    return (text,), (text,)


class _Wire(msgspec.Struct, frozen=True):
    """A path: who has it, and how its requests are read."""

    name: str
    engines: tuple[str, ...]
    decoder: msgspec.json.Decoder[Any]
    prompts: _Prompts
    streams: bool = False


def _wire(name: str, engines: str, body: type[_Asked], prompts: _Prompts, *, streams: bool = False) -> _Wire:
    return _Wire(name, tuple(engines.split()), msgspec.json.Decoder(body), prompts, streams)


_OPENAI = "vllm sglang llamacpp"
_WIRES = {
    b"/generate": _wire("generate", "generate sglang", _Generate, _of_generate),
    b"/v1/chat/completions": _wire("chat", _OPENAI, _Chat, _of_chat, streams=True),
    b"/v1/chat/completions/batch": _wire("batch", "vllm", _Batch, _of_batch),
    b"/v1/completions": _wire("completions", _OPENAI, _Completions, _of_completions),
    b"/v1/embeddings": _wire("embeddings", _OPENAI, _Embeddings, _of_embeddings),
    b"/tokenize": _wire("tokenize", "vllm llamacpp", _Tokenize, _of_tokenize),
    b"/apply-template": _wire("template", "llamacpp", _Chat, _of_chat),
}

IMMEDIATE = frozenset(("tokenize", "template"))
"""Wires that generate nothing."""


def has_path(path: bytes, engine: str) -> bool:
    """Whether an engine takes ``POST`` there."""
    if engine in _PROVIDERS:
        return _provider_wire(path, engine) is not None
    wire = _WIRES.get(path)
    return wire is not None and engine in wire.engines


def read(path: bytes, body: bytes, plan: ServerPlan) -> Work:
    """What a request asks for.

    Args:
        path: Where it was sent.
        body: Its body.
        plan: Whom it was sent to.

    Raises:
        RefusedError: It is answered with a 4xx.
    """
    if plan.engine in _PROVIDERS:
        return _read_provider(path, body, plan)
    wire = _WIRES.get(path)
    if wire is None or plan.engine not in wire.engines:
        raise RefusedError(404, "Not Found")
    asked = _decoded(wire.decoder.decode, body)
    prompts, said = wire.prompts(asked)
    streamed = bool(asked.stream)
    if not prompts or (asked.n or 1) != 1 or (streamed and not wire.streams):
        raise RefusedError(400, "simulated servers take one prompt at least, n = 1, and stream chat completions only")
    return Work(
        wire.name,
        prompts,
        said,
        0 if wire.name == "embeddings" else _allowed(asked),
        asked.model or "",
        streamed,
        bool(asked.stream_options and asked.stream_options.include_usage),
        -1 if asked.id_slot is None else asked.id_slot,
        **_conversation(asked, plan) if isinstance(asked, _Chat) else {},
    )


def _conversation(asked: _Chat, plan: ServerPlan) -> dict[str, Any]:
    """What is known of a request that a conversation came with."""
    taken = sum(message.role == "assistant" for message in asked.messages)
    prompt = next((_said(message) for message in asked.messages if message.role == "user"), "")
    offered = asked.tools if asked.tools and asked.tool_choice != "none" else ()
    tools = frozenset(tool.function.name for tool in offered)
    return {"scripted": _scripted(prompt, taken, plan.turns), "tools": tools, "taken": taken}


_PROVIDERS = {"anthropic": "messages", "bedrock": "converse"}


def _provider_wire(path: bytes, engine: str) -> str | None:
    known = path == b"/v1/messages" if engine == "anthropic" else providers.is_converse(path)
    return _PROVIDERS[engine] if known else None


def _read_provider(path: bytes, body: bytes, plan: ServerPlan) -> Work:
    wire = _provider_wire(path, plan.engine)
    if wire is None:
        raise RefusedError(404, "Not Found")
    if wire == "messages":
        asked = _decoded(providers.read_messages, body)
    else:
        asked = _decoded(lambda given: providers.read_converse(path, given), body)
    return Work(
        wire,
        (asked.prompt,),
        (asked.said,),
        asked.allowed,
        asked.model,
        asked.streamed,
        scripted=_scripted(asked.first, asked.taken, plan.turns),
        tools=asked.tools,
        taken=asked.taken,
    )


def _decoded(decode: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise RefusedError(400, f"the body cannot be read: {error}") from None


def _scripted(prompt: str, taken: int, turns: Sequence[str]) -> str:
    """What a server that goes by turns says now; nothing where it does not."""
    if not turns:
        return ""
    quoted = answers.encode(prompt[:QUOTED_CHARS]).decode()[1:-1]
    return turns[min(taken, len(turns) - 1)].replace("{prompt}", quoted)


def check(work: Work, plan: ServerPlan) -> None:
    """Refuse what a server of this plan refuses.

    Args:
        work: What is asked for.
        plan: The server, with the model and the context that it has now.

    Raises:
        RefusedError: Another model, too many tokens, or a text that the plan names.
    """
    if work.model and work.model != plan.model and plan.engine in ("vllm", "sglang") and work.wire != "tokenize":
        raise RefusedError(404, f"The model `{work.model}` does not exist.", "model_not_found")
    for prompt in work.prompts:
        tokens = count_tokens(prompt)
        if tokens + (work.allowed or 0) > plan.max_context:
            raise RefusedError(
                400,
                f"This model's maximum context length is {plan.max_context} tokens. However, you requested "
                f"{tokens + (work.allowed or 0)} tokens ({tokens} in the messages).",
            )
        if plan.refuses and plan.refuses in prompt:
            raise RefusedError(400, f"prompts with {plan.refuses!r} are refused")


def _allowed(asked: _Asked) -> int | None:
    allowed = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    if allowed is not None and allowed < 0:
        raise RefusedError(400, f"max_tokens must not be negative, got {allowed}")
    return allowed
