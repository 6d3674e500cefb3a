"""What goes over each wire, and what is made of what comes back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_swarm.errors import (
    AbortedError,
    BadResponseError,
    EndpointError,
    RequestRejectedError,
    ServerError,
    TruncatedError,
)
from aurora_swarm.testing import answers
from aurora_swarm.transports.chat_batch import ChatBatchWire
from aurora_swarm.transports.completions import CompletionsBatchWire, CompletionsWire
from aurora_swarm.transports.embeddings import EmbeddingsWire
from aurora_swarm.transports.generate import GenerateWire
from aurora_swarm.transports.models import ModelsWire
from aurora_swarm.transports.openai_chat import OpenAIChatWire
from aurora_swarm.transports.prompt import as_prompt
from aurora_swarm.transports.wire import BatchWire
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


def test_kinds_of_calls_take_turns_on_one_wire() -> None:
    wire = OpenAIChatWire()
    schemas = [None, *(msgspec.Raw(b'{"maximum": %d}' % number) for number in range(100))]
    for _ in range(2):
        for schema in schemas:
            call = Call((Message("user", "x"),), schema=schema, sampling=Sampling(seed=len(schema or b"")))
            assert wire.encode(call, "m") == OpenAIChatWire().encode(call, "m")
            assert (schema is None) == (b"maximum" not in wire.encode(call, "m"))


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
        CompletionsWire().decode,
        lambda b: CompletionsBatchWire().decode(b, calls_of(2)),
        lambda b: ChatBatchWire().decode(b, calls_of(2)),
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


BATCHES: dict[str, BatchWire] = {"chats": ChatBatchWire(), "completions": CompletionsBatchWire()}


def calls_of(count: int) -> list[Call]:
    return [Call((Message("user", f"prompt {i}"),)) for i in range(count)]


def batch_answer(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """As the server writes it that is asked by the wire of this name."""
    value = answers.completions(texts)
    if name == "chats":
        for choice in value["choices"]:
            choice["message"] = {"role": "assistant", "content": choice.pop("text")}
    return value


def test_completions_send_a_list_of_prompts() -> None:
    calls = [Call((Message("user", text),), sampling=SAMPLING) for text in ("a", "b")]
    assert sent(CompletionsBatchWire().encode(calls, "m")) == {"prompt": ["a", "b"], "model": "m", **SENT_SAMPLING}


def test_chats_are_sent_as_a_list_of_conversations() -> None:
    calls = [Call((Message("system", "be short"), Message("user", text)), sampling=SAMPLING) for text in ("a", "b")]
    assert sent(ChatBatchWire().encode(calls, "m")) == {
        "messages": [
            [{"role": "system", "content": "be short"}, {"role": "user", "content": text}] for text in ("a", "b")
        ],
        "model": "m",
        **SENT_SAMPLING,
    }


def test_a_batch_of_chats_that_vllm_wrote_is_read() -> None:
    body = (
        b'{"id":"chatcmpl-88","object":"chat.completion","created":1795466872,"model":"smollm2-135m","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"Mmmm, ready","refusal":null,"annotations":null,"audio":null,'
        b'"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"length","stop_reason":null,'
        b'"token_ids":null,"routed_experts":null},{"index":1,"message":{"role":"assistant","content":"This future",'
        b'"refusal":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null}],'
        b'"service_tier":null,"usage":{"prompt_tokens":65,"total_tokens":75,"completion_tokens":10,'
        b'"prompt_tokens_details":null},"kv_transfer_params":null,"metrics":null}'
    )
    first, second = ChatBatchWire().decode(body, calls_of(2))
    assert isinstance(first, Reply)
    assert isinstance(second, Reply)
    assert (first.text, first.finish_reason, second.text, second.finish_reason) == (
        "Mmmm, ready",
        "length",
        "This future",
        "stop",
    )
    assert first.usage + second.usage == Usage(65, 10)


@pytest.mark.parametrize("name", BATCHES)
def test_calls_that_differ_are_refused_before_they_are_sent(name: str) -> None:
    with pytest.raises(RequestRejectedError, match="equal"):
        BATCHES[name].encode([Call((USER,)), Call((USER,), sampling=SAMPLING)], "m")


@pytest.mark.parametrize("name", BATCHES)
def test_an_aborted_part_fails_alone(name: str) -> None:
    value = batch_answer(name, ["a", "b"])
    value["choices"][0]["finish_reason"] = "abort"
    first, second = BATCHES[name].decode(answers.encode(value), calls_of(2))
    assert isinstance(first, AbortedError)
    assert isinstance(second, Reply)


def test_a_bare_prompt_is_a_list_of_one() -> None:
    wire = CompletionsWire()
    assert sent(wire.encode(Call((USER,)), "m")) == {"prompt": ["hi"], "model": "m"}
    assert wire.decode(answers.encode(answers.completions(["yes"]))).text == "yes"
    value = answers.completions(["no"])
    value["choices"][0]["finish_reason"] = "abort"
    with pytest.raises(AbortedError):
        wire.decode(answers.encode(value))
    with pytest.raises(BadResponseError):
        wire.decode(answers.encode(answers.completions(["one", "two"])))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("name", BATCHES)
def test_shared_tokens_add_up_to_what_the_server_counted(name: str, count: int) -> None:
    value = batch_answer(name, ["x" * i for i in range(count)])
    value["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}
    parts = BATCHES[name].decode(answers.encode(value), calls_of(count))
    assert sum((part.usage for part in parts if isinstance(part, Reply)), Usage()) == Usage(10, 5, 3)


def test_shared_tokens_follow_the_length_of_prompt_and_answer() -> None:
    calls = [Call((Message("user", "x" * length),)) for length in (9, 29)]
    value = batch_answer("chats", ["y" * 19, "y" * 19])
    value["usage"] = {"prompt_tokens": 40, "completion_tokens": 20}
    parts = ChatBatchWire().decode(answers.encode(value), calls)
    assert [part.usage for part in parts if isinstance(part, Reply)] == [Usage(10, 10), Usage(30, 10)]


def test_llamacpp_counts_the_first_prompt_only_so_of_several_nothing_is_known() -> None:
    value = {**answers.completions(["a", "b"]), "timings": {"cache_n": 0}}
    parts = CompletionsBatchWire().decode(answers.encode(value), calls_of(2))
    assert [part.usage for part in parts if isinstance(part, Reply)] == [Usage(), Usage()]


@pytest.mark.parametrize("name", BATCHES)
def test_of_a_hundred_thousand_disordered_answers_none_is_misattributed(name: str) -> None:
    dice, seen = random.Random(10), {"right": 0, "missing": 0, "refused": 0}
    wire = BATCHES[name]
    calls = {count: calls_of(count) for count in range(1, 9)}
    whole = {count: batch_answer(name, [f"answer {i}" for i in range(count)]) for count in calls}
    for _ in range(50_000):
        count = dice.randrange(1, 9)
        try:
            parts = wire.decode(answers.encode(disordered(whole[count], count, dice)), calls[count])
        except BadResponseError:
            seen["refused"] += 1
            continue
        assert len(parts) == count
        for index, part in enumerate(parts):
            assert isinstance(part, BadResponseError) or part.text == f"answer {index}"
            seen["missing" if isinstance(part, BadResponseError) else "right"] += 1
    assert min(seen.values()) > 2_000


def disordered(value: dict[str, Any], count: int, dice: random.Random) -> dict[str, Any]:
    """The answer with its choices permuted, some dropped, one doubled, one with an index that nobody sent."""
    choices = list(value["choices"])
    dice.shuffle(choices)
    del choices[: dice.choice((0, 0, 1, 2))]
    if choices and dice.random() < 0.1:
        lie = {"text": "a doubled one", "message": {"content": "a doubled one"}}
        choices.insert(dice.randrange(len(choices)), {**dice.choice(choices), **lie})
    if choices and dice.random() < 0.1:
        place = dice.randrange(len(choices))
        choices[place] = {**choices[place], "index": dice.choice([-1, count, 10**9])}
    return {**value, "choices": choices}


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
