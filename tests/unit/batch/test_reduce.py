"""Reductions whose steps put together what they are given, so that nothing lost or doubled escapes notice."""

import json
import random
import re

import pytest
from pydantic import BaseModel

from aurora_swarm import AgentEndpoint, VLLMPool, errors
from aurora_swarm.batch.reduce import Grouping, Part, Reduction, Summary, run_with_reduce
from aurora_swarm.batch.run import BatchOptions
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.call import Sampling
from aurora_swarm.values.reply import EndpointInfo, Reply, Usage

REDUCE = "REDUCE {n} lists"


class Found(BaseModel):
    ids: list[int]
    note: str = ""


class Merged(BaseModel):
    ids: list[int]
    steps: int
    note: str = ""


def asked(call):
    """The task; a re-ask says more behind it."""
    return next(m.content for m in call.messages if m.role == "user")


def is_step(call):
    return asked(call).startswith("REDUCE")


def found_in(prompt):
    return [int(n) for listed in re.findall(r'"ids":\[([\d,]*)\]', prompt) for n in listed.split(",") if n]


def script(fails=lambda call: None, note=lambda: "", tokens=lambda text: len(text) // 4):
    """Answers ``item 7`` with its number, and a step with all numbers that it is given."""

    def answer(call, endpoint):
        prompt = asked(call)
        if (error := fails(call)) is not None:
            return error
        if is_step(call):
            value = {"ids": found_in(prompt), "steps": 1, "note": note()}
        else:
            value = {"ids": [int(prompt.split()[1])], "note": note()}
        text = json.dumps(value, separators=(",", ":"))
        return Reply(text, usage=Usage(sum(tokens(m.content) for m in call.messages), tokens(text)))

    return answer


def reduce(answer=None, n=20, *, context=None, journal=None, options=None, spec=None, inputs=None, **reduction):
    """Run a batch and reduce it on a scripted pool; give results, summary and the prompts of the steps."""
    transport = ScriptedTransport(answer or script(), delay_s=0.1, info=EndpointInfo(("m",), max_context=context))
    spec = BatchSpec(task="item {i}", output_schema=Found, **(spec or {}))
    made = Reduction(**{"instruction": REDUCE, "schema": Merged, **reduction})
    given = [{"i": i} for i in range(n)] if inputs is None else inputs

    async def main():
        async with VLLMPool([AgentEndpoint("a"), AgentEndpoint("b")], "m", transport=transport, concurrency=16) as pool:
            where = BatchOptions(backend=pool, journal=journal, **(options or {}))
            return await run_with_reduce(spec, given, made, where)

    results, summary = run_virtual(main())
    return results, summary, [asked(call) for _, call in transport.calls if is_step(call)]


# -- one step ----------------------------------------------------------------------------------------------------


def test_where_all_answers_fit_one_step_takes_them_in():
    results, summary, prompts = reduce(n=3)
    assert [r.output.ids for r in results] == [[0], [1], [2]]
    assert summary.ok
    assert summary.output == Merged(ids=[0, 1, 2], steps=1)
    assert (summary.n_ok, summary.missing, summary.steps, summary.levels) == (3, (), 1, 1)
    assert prompts[0] == (
        "REDUCE 3 lists\n\n"
        '=== answer 1 ===\n{"ids":[0],"note":""}\n=== end of answer 1 ===\n\n'
        '=== answer 2 ===\n{"ids":[1],"note":""}\n=== end of answer 2 ===\n\n'
        '=== answer 3 ===\n{"ids":[2],"note":""}\n=== end of answer 3 ==='
    )


def test_one_answer_is_put_into_the_form_of_a_summary_too():
    _, summary, prompts = reduce(n=1)
    assert summary.output == Merged(ids=[0], steps=1)
    assert len(prompts) == 1


def test_failures_are_left_out_and_counted():
    def fails(call):
        bad = not is_step(call) and int(asked(call).split()[1]) % 3 == 0
        return errors.RequestRejectedError("too long", status=413) if bad else None

    results, summary, prompts = reduce(script(fails), n=8)
    assert [r.ok for r in results] == [i % 3 != 0 for i in range(8)]
    assert (summary.n_ok, summary.missing) == (5, (0, 3, 6))
    assert summary.output.ids == [1, 2, 4, 5, 7]
    assert prompts[0].startswith("REDUCE 5 lists")


def test_where_no_input_has_an_answer_nobody_is_asked_to_reduce_nothing():
    rejected = errors.RequestRejectedError("no such thing", status=400)
    results, summary, prompts = reduce(script(lambda call: rejected), n=4)
    assert [r.ok for r in results] == [False] * 4
    assert prompts == []
    assert not summary.ok
    assert isinstance(summary.error, errors.QuorumError)
    assert "no such thing" in str(summary.error)
    assert (summary.n_ok, summary.missing, summary.steps) == (0, (0, 1, 2, 3), 0)


def test_no_inputs_are_refused_before_anything_is_sent():
    with pytest.raises(errors.UsageError, match="nothing to reduce"):
        reduce(n=0)
    with pytest.raises(errors.UsageError, match="nothing to reduce"):
        reduce(inputs=iter([]))


@pytest.mark.parametrize(
    "wrong", [{"instruction": " "}, {"instruction": "{answers}"}, {"instruction": "{"}, {"fanin": 1}, {"schema": 5}]
)
def test_a_reduction_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(errors.UsageError) as caught:
        reduce(**wrong)
    assert caught.value.remedy


def test_an_answer_in_the_wrong_form_is_asked_for_again():
    def answer(call, endpoint):
        wrong = is_step(call) and len(call.messages) == 1
        return '{"ids": "none"}' if wrong else json.dumps({"ids": [1], "steps": 1})

    _, summary, _ = reduce(answer, n=2)
    assert summary.output == Merged(ids=[1], steps=1)
    assert summary.attempts == 2


def test_a_summary_that_never_validates_is_a_failure_that_keeps_the_last_text():
    _, summary, _ = reduce(lambda call, _: "no" if is_step(call) else '{"ids":[1]}', n=2, max_retries=1)
    assert isinstance(summary.error, errors.InvalidOutputError)
    assert (summary.ok, summary.text, summary.missing) == (False, "no", (0, 1))


def test_free_text_is_reduced_to_free_text():
    transport = ScriptedTransport(lambda call, _: "ALL" if is_step(call) else f"<{asked(call)}>")

    async def main():
        async with VLLMPool([AgentEndpoint("a")], "m", transport=transport) as pool:
            spec = BatchSpec(task="{x}")
            made = Reduction(instruction=REDUCE)
            return await run_with_reduce(spec, [{"x": "{n}"}, {"x": "}}"}], made, BatchOptions(backend=pool))

    _, summary = run_virtual(main())
    assert summary.output == "ALL"
    assert "\n<{n}>\n" in asked(transport.calls[-1][1])
    assert "\n<}}>\n" in asked(transport.calls[-1][1])


def test_the_summary_is_plain_data_where_that_is_wanted():
    _, summary, _ = reduce(n=2)
    assert isinstance(summary, Summary)
    data = summary.as_dict()
    assert (data["output"]["ids"], data["n_ok"], data["missing"]) == ([0, 1], 2, ())


# -- a tree ------------------------------------------------------------------------------------------------------


def test_more_answers_than_the_fanin_are_reduced_level_by_level():
    _, summary, prompts = reduce(n=20, fanin=4)
    assert summary.output.ids == list(range(20))
    assert (summary.steps, summary.levels) == (7, 3)
    assert [p.split(" lists")[0] for p in prompts] == ["REDUCE 4"] * 6 + ["REDUCE 2"]


def test_without_a_known_context_a_step_takes_in_fifty():
    _, summary, prompts = reduce(n=101)
    assert summary.output.ids == list(range(101))
    assert [p.split(" lists")[0] for p in prompts] == ["REDUCE 50", "REDUCE 50", "REDUCE 1", "REDUCE 3"]


def test_what_does_not_fit_is_cut_so_that_two_fit_beside_each_other():
    notes = iter(["x" * 100_000, "y" * 100_000, "", ""])
    _, summary, prompts = reduce(script(note=lambda: next(notes)), n=2, context=4096)
    assert summary.ok
    assert summary.output.ids == [0, 1]
    assert summary.levels == 1
    assert prompts[0].count("characters left out") == 2


def refusing_above(chars):
    def fails(call):
        return (
            errors.RequestRejectedError("too long", status=400) if is_step(call) and len(asked(call)) > chars else None
        )

    return fails


def test_a_step_that_a_server_refuses_is_taken_in_halves():
    _, summary, prompts = reduce(script(refusing_above(700)), n=20, fanin=16)
    assert summary.ok
    assert summary.output.ids == list(range(20))
    assert summary.missing == ()
    assert any(len(p) > 700 for p in prompts)


def test_a_server_that_refuses_every_step_ends_in_a_failure_and_not_in_a_loop():
    _, summary, prompts = reduce(script(refusing_above(0)), n=20)
    assert not summary.ok
    assert isinstance(summary.error, errors.RequestRejectedError)
    assert len(prompts) <= 2 * 20
    assert summary.missing == tuple(range(20))


def test_wrong_keys_are_not_taken_for_length():
    refused = errors.AuthenticationError("who are you", status=401)
    _, summary, prompts = reduce(script(lambda call: refused if is_step(call) else None), n=20)
    assert isinstance(summary.error, errors.AuthenticationError)
    assert len(prompts) == 1


def test_what_a_failed_step_was_to_take_in_is_missing_and_named():
    def fails(call):
        bad = is_step(call) and "[5]" in asked(call)
        return errors.RequestRejectedError("poison", status=400) if bad else None

    _, summary, _ = reduce(script(fails), n=20, fanin=4, context=8192)
    assert summary.ok
    assert summary.missing == (5,)
    assert summary.n_ok == 19
    assert 5 not in summary.output.ids


def test_no_step_overflows_its_context_in_300_random_reductions():
    dice = random.Random(7)
    overflows = trees = 0

    def one():
        nonlocal overflows, trees
        per_token = dice.uniform(2.2, 5.5)
        longest = dice.choice([20, 200, 1500, 6000])
        context = 8192

        def tokens(text):
            return int(len(text) / per_token) + 12

        def fails(call):
            nonlocal overflows
            needed = sum(tokens(m.content) for m in call.messages) + (call.sampling.max_tokens or 1)
            if needed > context:
                overflows += 1
                return errors.RequestRejectedError(f"{needed} tokens do not fit", status=400)
            return None

        def note():
            return "n" * dice.randrange(longest)

        n = dice.randrange(1, 300)
        _, summary, _ = reduce(
            script(fails, note, tokens), n=n, context=context, sampling=Sampling(dice.choice([None, 300, 1500]))
        )
        trees += summary.levels > 1
        assert summary.ok, summary.error
        assert summary.missing == ()
        assert summary.n_ok == n

    for _ in range(300):
        one()
    assert overflows == 0
    assert trees > 50


# -- one pool, one journal, one purse ----------------------------------------------------------------------------


def test_only_the_results_of_inputs_are_told_to_the_callback():
    told = []
    reduce(n=6, fanin=2, options={"on_result": lambda r: told.append(r.index)})
    assert sorted(told) == list(range(6))


def test_a_second_run_with_the_same_journal_asks_nobody(tmp_path):
    journal = tmp_path / "j.db"
    first = reduce(n=9, fanin=3, journal=journal)
    again = reduce(lambda call, _: pytest.fail("asked again"), n=9, fanin=3, journal=journal)
    assert again[1].output == first[1].output
    assert (len(first[2]), again[2]) == (4, [])
    assert all(result.resumed for result in again[0])


def test_a_changed_input_is_reduced_anew_and_no_other_step_is_repeated(tmp_path):
    journal = tmp_path / "j.db"
    reduce(n=9, fanin=3, journal=journal)
    inputs = [{"i": i} for i in [*range(8), 77]]
    _, summary, prompts = reduce(inputs=inputs, fanin=3, journal=journal)
    assert summary.output.ids == [*range(8), 77]
    assert len(prompts) == 2  # its own group, and the root


def test_what_the_answers_cost_is_not_there_for_the_reduction():
    rich, _, _ = reduce(n=6, options={"budget": Budget(tokens=10**9)})
    assert all(result.ok for result in rich)
    # Enough for an answer's prompt and 64 tokens at the end, too little for the longer prompt of the reduction.
    spent = sum(result.usage.total_tokens for result in rich)
    results, summary, _ = reduce(n=6, options={"budget": Budget(tokens=spent + 500, width=1)})
    assert all(result.ok for result in results)
    assert isinstance(summary.error, errors.BudgetError)


# -- grouping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_groups_cover_all_in_order_and_any_two_fit(seed):
    dice = random.Random(seed)
    parts = [Part("x" * dice.randrange(1, 9000), (i,)) for i in range(dice.randrange(1, 80))]
    grouping = Grouping(lambda text: len(text) // 4 + 24, "instruction", 2000, dice.choice([None, 2, 5]))
    groups = grouping.groups(parts)
    assert [part.leaves for group in groups for part in group] == [part.leaves for part in parts]
    assert all(len(group) > 1 for group in groups[:-1])
    assert all(sum(len(p.text) // 4 for p in group) < 2000 for group in groups)


# -- real sockets ------------------------------------------------------------------------------------------------


async def test_a_tree_on_real_sockets_overflows_nowhere():
    answer = json.dumps({"ids": [1], "note": "n" * 3000, "steps": 1})
    plan = ServerPlan(max_context=8192, answer=answer, tokens=750)
    spec = BatchSpec(task="item {i}", output_schema=Found, sampling=Sampling(1000))
    made = Reduction(instruction=REDUCE, schema=Merged, sampling=Sampling(1000))
    async with SimulatedFleet([plan] * 4) as fleet:
        backend = [endpoint.url for endpoint in fleet.endpoints]
        _, summary = await run_with_reduce(spec, [{"i": i} for i in range(60)], made, BatchOptions(backend=backend))
        counts = fleet.counts()
    assert summary.ok, summary.error
    assert summary.levels > 1
    assert (counts.refused, summary.missing) == (0, ())
