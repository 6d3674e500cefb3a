"""How a batch travels to other processes: by reference, or not at all."""

import msgspec
import pytest
from pydantic import BaseModel

from aurora_swarm import Tool
from aurora_swarm.batch.plan import Errand, Keys, Sharing, Where, decoded, digest_of, encoded, packed, revived, unpacked
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.errors import InputError, UsageError
from aurora_swarm.values.call import Sampling


class Verdict(BaseModel):
    """An answer."""

    verdict: str


@Tool.define(effect="pure")
def look(word: str) -> str:
    """Look up."""
    return f"seen {word}"


def plain(word: str) -> str:
    """A function that becomes a tool."""
    return word


WHERE = Where(backend="vllm://host:8000")


def there_and_back(spec, document=b"", shared=None):
    return unpacked(packed(spec, WHERE, shared or {}, document))


def test_tools_and_schemas_travel_by_name(tmp_path):
    tools = (look, plain, look.limit(word=["a", "b"]), Tool.read_file.beneath(tmp_path))
    spec = BatchSpec("{x}", tools=tools[:2], output_schema=Verdict, sampling=Sampling(max_tokens=5))
    revived_spec = revived(there_and_back(spec))
    assert revived_spec.tools[0] is look
    assert revived_spec.tools[1] is plain
    assert revived_spec.output_schema is Verdict
    assert revived_spec == spec
    others = revived(there_and_back(BatchSpec("{x}", tools=tools[2:]))).tools
    assert [tool.determinant() for tool in others] == [tool.determinant() for tool in tools[2:]]
    assert others[0].function is look.function


def test_what_no_other_process_finds_is_refused_before_the_run():
    class Inner(BaseModel):
        x: int

    main = type("Answer", (BaseModel,), {"__module__": "__main__", "__annotations__": {"x": int}})
    for spec in (
        BatchSpec("{x}", tools=(lambda word: word,)),
        BatchSpec("{x}", output_schema=Inner),
        BatchSpec("{x}", output_schema=main),
    ):
        with pytest.raises(UsageError, match="cannot import it") as caught:
            packed(spec, WHERE, {}, b"")
        assert "module" in caught.value.remedy


def test_a_document_travels_as_it_is_and_needs_no_pickle():
    parcel = there_and_back(BatchSpec("{x}", tools=(lambda word: word,)), b'{"task": "{x}"}', {"x": "same"})
    assert (parcel.kind, parcel.body, decoded(parcel.shared)) == ("document", b'{"task": "{x}"}', {"x": "same"})
    assert parcel.paths == ()


def test_what_another_version_sent_is_refused():
    with pytest.raises(UsageError, match="another version"):
        unpacked(b"\x00what")


def test_code_that_is_not_there_is_named():
    parcel = there_and_back(BatchSpec("{x}", output_schema=Verdict))
    body = parcel.body.replace(b"Verdict", b"Verdikt")
    with pytest.raises(UsageError, match="Verdikt"):
        revived(msgspec.structs.replace(parcel, body=body))


@pytest.mark.parametrize(
    "change",
    [
        {"task": "{y}"},
        {"system_prompt": "Be brief."},
        {"output_schema": Verdict},
        {"tools": (look,)},
        {"sampling": Sampling(max_tokens=3)},
        {"max_turns": 3},
        {"max_retries": 0},
        {"hoist": False},
        {"compaction": "off"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_determines_answers_is_in_the_digest(change):
    spec = BatchSpec("{x}")
    assert digest_of(spec, "m") == digest_of(BatchSpec("{x}"), "m")
    assert digest_of(spec, "m") != digest_of(msgspec.structs.replace(spec, **change), "m")
    assert digest_of(spec, "m") != digest_of(spec, "n")


def test_equal_inputs_have_keys_of_their_own_whatever_the_order_of_fields():
    keys, again = Keys(), Keys()
    first, second, third = (
        keys.job(n, fields) for n, fields in enumerate([{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 3}])
    )
    assert len({first.key, second.key, third.key}) == 3
    assert again.job(9, {"b": 2, "a": 1}).key == first.key


@pytest.mark.parametrize("value", ["half \ud83d", "nul\0", "\u65e5", 2**70, 0.1, None, {"deep": [1, {"er": "x"}]}])
def test_inputs_arrive_as_they_are(value):
    assert decoded(Keys().job(0, {"x": value}).payload) == {"x": value}
    assert decoded(encoded({"x": value})) == {"x": value}


@pytest.mark.parametrize("fields", [{"x": object()}, ["x"], {"x": {1, 2}.__iter__()}])
def test_an_input_that_cannot_travel_is_named(fields):
    with pytest.raises(InputError) as caught:
        Keys().job(3, fields)
    assert caught.value.source == "input 3"


def test_passwords_are_not_said():
    sharing = Sharing(store="redis://user:secret@host:6379/0?password=hidden", run="r")
    assert sharing.place == "redis://***@host:6379/0"


def test_numbers_that_cannot_be_are_refused():
    for sharing in (Sharing(store="x", processes=-1), Sharing(store="x", max_attempts=0), Sharing(store="x", window=0)):
        with pytest.raises(UsageError):
            sharing.check()


def test_an_errand_is_text():
    errand = Errand(store="sqlite:///x", run="r", where=WHERE)
    assert msgspec.json.decode(msgspec.json.encode(errand).decode(), type=Errand) == errand
