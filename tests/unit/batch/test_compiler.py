"""What a model is told, what of it is shared, and which answers a journal may give again."""

import asyncio
import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from aurora_swarm import VLLMPool, errors
from aurora_swarm.batch.compiler import PREFIX_CHARS, TaskCompiler
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.inputs.template import Template
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet
from aurora_swarm.values.call import Call, Sampling

GUIDE = "Name the rule before you apply it. " * 60
TASK = "Review this text:\n\n{text}\n\nGo by this guide:\n\n{guide}"


class Out(BaseModel):
    word: str


def inputs(n=8, guide=GUIDE):
    return [{"text": f"text {i}: " + "word " * 20, "guide": guide} for i in range(n)]


def compiler(given=None, *, task=TASK, **options):
    spec = {name: options.pop(name) for name in tuple(options) if name in BatchSpec.__struct_fields__}
    return TaskCompiler(BatchSpec(task=task, **spec), "m", inputs=given, **options)


def said(job):
    return job.task.messages[-1].content


def keys(made, given):
    return [made.compile(index, values).task.key for index, values in enumerate(given)]


# -- what is said ------------------------------------------------------------------------------------------------


def test_a_field_that_all_inputs_share_is_said_first_and_once():
    given = inputs()
    texts = [said(compiler(given).compile(0, each)) for each in given]
    assert all(text.startswith(f"Shared by all tasks:\n\n=== guide ===\n{GUIDE}\n") for text in texts)
    assert all(text.count(GUIDE) == 1 for text in texts)
    assert all(text.endswith("Go by this guide:\n\n[guide, as given above]") for text in texts)


def test_hoisting_can_be_switched_off():
    given = inputs()
    assert said(compiler(given, hoist=False).compile(0, given[0])) == Template(TASK).render(given[0])


def test_without_the_list_nothing_is_hoisted_unless_it_is_declared():
    given = inputs()
    assert said(compiler(None).compile(0, given[0])) == Template(TASK).render(given[0])
    declared = compiler(None, shared={"guide": GUIDE}).compile(0, {"text": "a"})
    assert said(declared).startswith("Shared by all tasks:")


def test_an_input_with_a_value_of_its_own_keeps_it_in_its_place():
    made = compiler(None, shared={"guide": GUIDE})
    job = made.compile(0, {"text": "a", "guide": "be kind"})
    assert said(job) == Template(TASK).render({"text": "a", "guide": "be kind"})
    assert job.task.prefix == ""


def test_declared_fields_count_as_given_when_inputs_are_checked():
    compiler(None, shared={"guide": GUIDE}).check([{"text": "a"}])
    with pytest.raises(errors.TemplateError, match="guide"):
        compiler(None).check([{"text": "a"}])


def test_a_missing_field_is_named_with_its_place_in_the_task_as_written():
    with pytest.raises(errors.TemplateError) as caught:
        compiler(inputs()).compile(0, {"guide": GUIDE})
    assert (caught.value.field, caught.value.line, caught.value.column) == ("text", 3, 1)


def test_what_a_mapping_would_make_up_for_a_missing_field_is_not_taken():
    with pytest.raises(errors.TemplateError):
        compiler(None).compile(0, defaultdict(str))


def test_the_schema_is_told_in_words_only_where_the_engine_is_not_held_to_it():
    by_words = compiler(None, output_schema=Out, system_prompt="Be brief.", schema_in_words=True)
    system = by_words.compile(0, inputs(1)[0]).task.messages[0].content
    instruction, _, schema = system.partition("Its schema:\n")
    assert instruction == "Be brief.\n\nAnswer with one JSON object and nothing else. "
    assert json.loads(schema)["required"] == ["word"]
    plain = compiler(None, output_schema=Out, system_prompt="Be brief.")
    assert plain.compile(0, inputs(1)[0]).task.messages[0].content == "Be brief."


def test_after_a_tools_answer_the_task_is_said_again_without_what_is_shared():
    def shout(text: str) -> str:
        """Shout."""
        return text

    given = inputs()
    job = compiler(given, tools=(shout,), task="{text} {guide}").compile(0, {"text": "a", "guide": GUIDE})
    assert job.task.rules.reminder == "Now do the task: a [guide, as given above]"


STRANGE = st.text() | st.sampled_from(
    ["{text}", "}}{{", "\x00", "\ud800\udc00x", "\u202e", "{guide}", "=== end of guide ==="]
)
DATA = st.one_of(STRANGE, st.integers(), st.lists(STRANGE, max_size=3), st.dictionaries(st.text(), STRANGE, max_size=2))


@given(text=DATA, guide=DATA, hoist=st.booleans(), declared=st.booleans())
def test_data_is_never_read_as_a_template(text, guide, hoist, declared):
    both = [{"text": text, "guide": guide}] * 2
    made = compiler(both, hoist=hoist, shared={"guide": guide} if declared else None)
    value = Template("{guide}").render(both[0])
    sent = said(made.compile(0, both[0]))
    if sent.startswith("Shared by all tasks:"):
        assert value in sent
        assert sent.endswith("[guide, as given above]")
    else:
        assert sent == Template(TASK).render(both[0])
        assert sent.endswith(value)
    assert Template("{text}").render(both[0]) in sent


def test_a_text_of_fifty_megabytes_is_sent_as_it_is():
    text = "{" * 50_000_000
    job = compiler(None, task="Say {text}").compile(0, {"text": text})
    assert said(job) == "Say " + text


# -- what is shared ----------------------------------------------------------------------------------------------


def test_all_jobs_have_one_prefix_and_what_they_begin_with_is_its_opening():
    given = inputs()
    made = compiler(given, system_prompt="Be brief.")
    jobs = [made.compile(i, each) for i, each in enumerate(given)]
    assert {job.task.prefix for job in jobs} == {made.prefix}
    assert made.prefix
    *system, head = made.opening
    for job in jobs:
        assert list(job.task.messages[:-1]) == system
        assert said(job).startswith(head.content)


def test_a_short_beginning_is_no_prefix_to_go_by():
    assert compiler(None, task="Say {text}", system_prompt="Be brief.").prefix == ""
    assert compiler(None, task="Say {text}", system_prompt="b" * PREFIX_CHARS).prefix != ""


def test_batches_that_share_something_else_have_another_prefix():
    assert compiler(inputs()).prefix != compiler(inputs(guide=GUIDE + "x")).prefix


@pytest.mark.parametrize("hoist", [True, False])
async def test_hoisting_raises_the_share_of_the_prompt_that_engines_have_cached(hoist):
    given = inputs(40)
    async with SimulatedFleet([ServerPlan(tokens=1)] * 2) as fleet:
        async with VLLMPool(fleet.endpoints, "simulated", concurrency=8) as pool:
            made = compiler(given, hoist=hoist)
            jobs = [made.compile(i, each) for i, each in enumerate(given)]
            calls = [Call(job.task.messages, sampling=Sampling(1), prefix=job.task.prefix) for job in jobs]
            outcomes = await asyncio.gather(*map(pool.ask, calls))
        counts = fleet.counts()
    assert all(outcome.reply is not None for outcome in outcomes)
    share = counts.cached_tokens / counts.prompt_tokens
    assert share > 0.85 if hoist else share < 0.1


# -- which answers may be given again ----------------------------------------------------------------------------


def test_an_input_keeps_its_key_when_others_join_the_list():
    alone = inputs(3)
    joined = [*alone, {"text": "new", "guide": "another"}]
    assert keys(compiler(joined), alone) == keys(compiler(alone), alone) == keys(compiler(None), alone)


def test_a_declared_field_has_the_key_of_one_that_is_given():
    given = inputs(2)
    bare = [{"text": each["text"]} for each in given]
    assert keys(compiler(None, shared={"guide": GUIDE}), bare) == keys(compiler(given), given)


def test_a_header_of_yesterdays_session_does_not_change_a_key():
    given = inputs(1)
    one, other = (compiler(None, system_prompt=f"x-session-id: {n}\nBe brief.") for n in (1, 2))
    assert keys(one, given) == keys(other, given)
    kept = [compiler(None, system_prompt=f"x-session-id: {n}\nBe brief.", strip_headers=False) for n in (1, 2)]
    assert keys(kept[0], given) != keys(kept[1], given)


@pytest.mark.parametrize(
    "change",
    [{"task": TASK + " "}, {"system_prompt": "x"}, {"output_schema": Out}, {"hoist": False}, {"max_turns": 3}],
)
def test_a_change_of_what_determines_the_answer_changes_the_key(change):
    given = inputs(2)
    assert not set(keys(compiler(given), given)) & set(keys(compiler(given, **change), given))


@given(st.lists(st.tuples(STRANGE, STRANGE), min_size=2, max_size=6, unique=True))
def test_inputs_that_say_something_else_have_different_keys(pairs):
    made = compiler(None, task="{a}{b}")
    assert len(set(keys(made, [{"a": a, "b": b} for a, b in pairs]))) == len(pairs)


def test_long_texts_that_differ_in_their_last_character_have_different_keys():
    made = compiler(None, task="{a}")
    assert len(set(keys(made, [{"a": "x" * 5000 + end} for end in "123"]))) == 3


def test_equal_inputs_have_keys_of_their_own():
    assert len(set(keys(compiler(None), inputs(1) * 3))) == 3
