"""What goes over each wire, and what is made of what comes back."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm.errors import (
    AbortedError,
    BadResponseError,
    CallError,
    EndpointError,
    ServerError,
    TruncatedError,
)
from aurora_swarm.testing import answers
from aurora_swarm.transports.completions import CompletionsWire
from aurora_swarm.transports.embeddings import EmbeddingsWire
from aurora_swarm.transports.generate import GenerateWire
from aurora_swarm.transports.models import ModelsWire
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.prompt import as_prompt
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.reply import Reply, Usage

USER = Message("user", "hi")
SAMPLING = Sampling(9, 0.5, 0.9, 7, ("END",))
SENT_SAMPLING = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 7, "stop": ["END"]}


def sent(body: bytes) -> Any:
    return msgspec.json.decode(body)


# -- generate -------------------------------------------------------------------------------------------------------


def test_generate_sends_the_prompt_alone() -> None:
    assert sent(GenerateWire().encode(Call((USER,)), "ignored")) == {"prompt": "hi"}


def test_generate_sends_the_sampling_that_was_asked_for() -> None:
    assert sent(GenerateWire().encode(Call((USER,), sampling=SAMPLING), "")) == {"prompt": "hi", **SENT_SAMPLING}


@pytest.mark.parametrize("body", [b'{"response": "yes"}', b'{"text": "yes"}', b'{"response": "yes", "text": "no"}'])
def test_generate_reads_response_or_text(body: bytes) -> None:
    assert GenerateWire().decode(body).text == "yes"


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"response": null}', b'{"response": ["yes"]}', b'{"answer": "yes"}'])
def test_generate_takes_nothing_else_for_an_answer(body: bytes) -> None:
    with pytest.raises(BadResponseError):
        GenerateWire().decode(body)


def test_a_conversation_as_one_prompt_names_its_speakers() -> None:
    system, answer = Message("system", "Be brief."), Message("assistant", "hello")
    assert as_prompt([system, USER]) == "Be brief.\n\nhi"
    assert as_prompt([system, USER, answer, Message("tool", "42")]) == (
        "Be brief.\n\nUser: hi\n\nAssistant: hello\n\nUser: 42\n\nAssistant:"
    )
    assert as_prompt([USER, answer]) == "User: hi\n\nAssistant: hello"


# -- chat -----------------------------------------------------------------------------------------------------------


def test_chat_sends_messages_and_model_alone() -> None:
    assert sent(OpenAIChatWire().encode(Call((USER,)), "m")) == {
        "messages": [{"role": "user", "content": "hi"}],
        "model": "m",
    }


def test_chat_sends_sampling_and_schema() -> None:
    call = Call((USER,), sampling=SAMPLING, schema=msgspec.Raw(b'{"type": "object"}'))
    body = sent(OpenAIChatWire().encode(call, "m"))
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}}
    assert {key: body[key] for key in SENT_SAMPLING} == SENT_SAMPLING
    assert body["response_format"] == schema
    assert "stream" not in body


def test_a_streamed_chat_asks_for_its_usage() -> None:
    body = sent(OpenAIChatWire().encode_stream(Call((USER,)), "m"))
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


def test_a_tools_text_without_a_call_is_sent_as_the_users() -> None:
    body = sent(OpenAIChatWire().encode(Call((Message("tool", "{x} 42"),)), "m"))
    assert body["messages"] == [{"role": "user", "content": "{x} 42"}]


def test_a_tool_protocol_of_the_servers_is_sent_in_openais_form() -> None:
    asked = Message("assistant", "", tool_calls=(ToolCall("c1", "add", {"a": 1}),))
    body = sent(OpenAIChatWire().encode(Call((asked, Message("tool", "2", tool_call_id="c1"))), "m"))
    function = {"name": "add", "arguments": '{"a":1}'}
    assert body["messages"] == [
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]


def test_a_chat_answer_is_read_with_its_usage() -> None:
    value = answers.chat("a b c", prompt="p q")
    value["usage"]["prompt_tokens_details"]["cached_tokens"] = 1
    reply = OpenAIChatWire().decode(answers.encode(value))
    assert reply == Reply("a b c", "stop", Usage(2, 3, 1), answers.MODEL)


@pytest.mark.parametrize("extra", [{"usage": None}, {"usage": {}}, {"usage": {"prompt_tokens_details": None}}])
def test_usage_that_is_left_out_is_zero(extra: dict[str, Any]) -> None:
    assert OpenAIChatWire().decode(answers.encode({**answers.chat("a"), **extra})).usage == Usage()


def test_content_null_is_an_empty_text() -> None:
    assert OpenAIChatWire().decode(answers.encode(answers.chat(None))).text == ""


@pytest.mark.parametrize("choices", [[], [answers.chat("a")["choices"][0]] * 2, [{"message": {}, "index": 1}]])
def test_anything_but_one_choice_is_a_bad_response(choices: list[Any]) -> None:
    with pytest.raises(BadResponseError, match="one choice"):
        OpenAIChatWire().decode(answers.encode({"choices": choices}))


def test_an_error_beside_empty_choices_is_the_servers_error() -> None:
    with pytest.raises(ServerError, match="no memory"):
        OpenAIChatWire().decode(answers.encode({"choices": [], **answers.error("no memory")}))


@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "index", "usage", "data", "id", "error"]), inner
            )
        ),
        max_leaves=12,
    ).map(answers.encode)
)
@settings(max_examples=300, deadline=None)
def test_junk_is_an_endpoints_error_on_every_wire(body: bytes) -> None:
    for decode in (
        OpenAIChatWire().decode,
        GenerateWire().decode,
        ModelsWire().decode,
        lambda b: CompletionsWire().decode(b, 2),
        lambda b: EmbeddingsWire().decode(b, 2),
        lambda b: OpenAIChatWire().decoder().feed(b"data: " + b + b"\n\n"),
    ):
        with suppress(EndpointError):
            decode(body)


def test_a_bottomless_answer_is_a_bad_response() -> None:
    deep = b'{"extra": ' + b"[" * 200_000 + b"]" * 200_000 + b', "choices": []}'
    with pytest.raises(BadResponseError):
        OpenAIChatWire().decode(deep)


# -- streamed chat --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), max_size=60))
@settings(max_examples=80, deadline=None)
def test_a_stream_is_the_same_however_it_is_cut(sizes: list[int]) -> None:
    body = answers.chat_stream(["Hé", "llo 🐝", ""], prompt="p")
    decoder, texts, at = OpenAIChatWire().decoder(), [], 0
    for size in [*sizes, len(body)]:
        texts.append(decoder.feed(body[at : at + size]))
        at += size
    reply = decoder.end(framed=False)
    assert reply.text == "".join(texts) == "Héllo 🐝"
    assert reply.usage.prompt_tokens == 1


@pytest.mark.parametrize(
    ("body", "framed"),
    [
        (b"", True),
        (answers.chat_stream(["a"], finish_reason=None), True),
        (answers.chat_stream(["a"], finish_reason=None, done=False), True),
        (answers.chat_stream(["a"], done=False), False),
        (answers.chat_stream(["a"])[:-1], False),
    ],
    ids=["nothing", "no finish", "no finish, no done", "no done, no framing", "half a done"],
)
def test_a_stream_without_its_end_is_truncated(body: bytes, framed: bool) -> None:
    decoder = OpenAIChatWire().decoder()
    decoder.feed(body)
    with pytest.raises(TruncatedError):
        decoder.end(framed=framed)


def test_a_finish_without_done_is_enough_where_http_would_have_told_of_a_cut() -> None:
    decoder = OpenAIChatWire().decoder()
    decoder.feed(answers.chat_stream(["a"], done=False))
    assert decoder.end(framed=True).text == "a"


def test_a_streamed_choice_that_was_not_asked_for_is_a_bad_response() -> None:
    event = answers.encode({"choices": [{"index": 1, "delta": {"content": "x"}}]})
    with pytest.raises(BadResponseError):
        OpenAIChatWire().decoder().feed(answers.events([event]))


# -- completions and embeddings -------------------------------------------------------------------------------------


def test_completions_send_a_list_of_prompts() -> None:
    calls = [Call((Message("user", text),), sampling=SAMPLING) for text in ("a", "b")]
    assert sent(CompletionsWire().encode(calls, "m")) == {"prompt": ["a", "b"], "model": "m", **SENT_SAMPLING}


def test_an_aborted_part_fails_alone() -> None:
    value = answers.completions(["a", "b"])
    value["choices"][0]["finish_reason"] = "abort"
    first, second = CompletionsWire().decode(answers.encode(value), 2)
    assert isinstance(first, AbortedError)
    assert isinstance(second, Reply)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shared_tokens_add_up_to_what_the_server_counted(count: int) -> None:
    value = answers.completions(["x"] * count)
    value["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}
    parts = CompletionsWire().decode(answers.encode(value), count)
    assert sum((part.usage for part in parts if isinstance(part, Reply)), Usage()) == Usage(10, 5, 3)


def test_five_thousand_disordered_answers_are_never_misattributed() -> None:
    dice, seen = random.Random(10), {"right": 0, "missing": 0, "refused": 0}
    for _ in range(5_000):
        count = dice.randrange(1, 12)
        value = answers.completions([f"answer {i}" for i in range(count)])
        choices = value["choices"]
        dice.shuffle(choices)
        del choices[: dice.choice([0, 0, 1, 2])]
        if choices and dice.random() < 0.1:
            choices.insert(dice.randrange(len(choices)), {**dice.choice(choices), "text": "a doubled one"})
        if choices and dice.random() < 0.1:
            dice.choice(choices)["index"] = dice.choice([-1, count, 10**9])
        try:
            parts: list[Reply | CallError] = CompletionsWire().decode(answers.encode(value), count)
        except BadResponseError:
            seen["refused"] += 1
            continue
        assert len(parts) == count
        for index, part in enumerate(parts):
            assert isinstance(part, BadResponseError) or part.text == f"answer {index}"
            seen["missing" if isinstance(part, BadResponseError) else "right"] += 1
    assert min(seen.values()) > 200


@given(st.permutations(range(6)))
@settings(max_examples=50, deadline=None)
def test_vectors_are_mapped_by_index(order: list[int]) -> None:
    value = answers.embeddings([(float(i), 0.0) for i in range(6)])
    value["data"] = [value["data"][i] for i in order]
    vectors = EmbeddingsWire().decode(answers.encode(value), 6).vectors
    assert [vector[0] for vector in vectors] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "vectors", [[(1.0,)], [(1.0,), (1.0, 2.0)], [(), ()], [(1.0,)] * 3], ids=["missing", "uneven", "empty", "too many"]
)
def test_vectors_that_do_not_fit_are_a_bad_response(vectors: list[tuple[float, ...]]) -> None:
    with pytest.raises(BadResponseError):
        EmbeddingsWire().decode(answers.encode(answers.embeddings(vectors)), 2)


# -- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "context", "engine"),
    [
        ({"id": "a", "owned_by": "vllm", "max_model_len": 2048}, 2048, "vllm"),
        ({"id": "a", "owned_by": "llamacpp", "meta": {"n_ctx": 4096, "n_ctx_train": 8192}}, 4096, "llamacpp"),
        ({"id": "a", "meta": {"n_ctx_train": 8192}}, None, ""),
        ({"id": "a", "owned_by": None, "max_model_len": None, "meta": None}, None, ""),
    ],
)
def test_context_and_engine_are_read_where_engines_put_them(model: Any, context: int | None, engine: str) -> None:
    info = ModelsWire().decode(answers.encode({"data": [model, {"id": "b"}]}))
    assert (info.models, info.max_context, info.engine) == (("a", "b"), context, engine)


def test_what_a_user_says_in_a_row_is_sent_as_one_message_so_that_roles_alternate() -> None:
    called = Message("assistant", "use it")
    said = (Message("system", "s"), USER, called, Message("tool", "found"), Message("user", "go on"))
    roles = [(m["role"], m["content"]) for m in sent(OpenAIChatWire().encode(Call(said), "m"))["messages"]]
    assert roles == [("system", "s"), ("user", "hi"), ("assistant", "use it"), ("user", "found\n\ngo on")]
