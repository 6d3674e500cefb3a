"""Plan, map and reduce on a scripted transport: who is asked what, by which model."""

import json

import pytest
from pydantic import BaseModel, Field

from aurora_swarm import AgentEndpoint, VLLMPool, errors
from aurora_swarm.batch.map_reduce import Planning, run_with_map_reduce
from aurora_swarm.batch.reduce import Reduction
from aurora_swarm.batch.run import BatchOptions
from aurora_swarm.batch.spec import BatchSpec
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.reply import Reply, Usage


class Plan(BaseModel):
    questions: list[str] = Field(max_length=5)


class Topic(BaseModel):
    name: str
    depth: int


class Topics(BaseModel):
    items: list[Topic]
    rejected: list[Topic] = []


class Answer(BaseModel):
    answer: str


class Report(BaseModel):
    text: str


def script(plan):
    def answer(call, endpoint):
        prompt = next(m.content for m in call.messages if m.role == "user")
        if prompt.startswith("PLAN"):
            return plan if not isinstance(plan, dict) else json.dumps(plan)
        if prompt.startswith("WORK"):
            return json.dumps({"answer": f"on {prompt[5:]}"})
        return json.dumps({"text": f"{prompt.count('on ')} in {prompt.splitlines()[0]}"})

    return answer


def run(plan, *, schema=Plan, task="WORK {item}", options=None, models=("", "", ""), **planning):
    transport = ScriptedTransport(script(plan), delay_s=0.1)
    made = Planning(**{"prompt": "PLAN for {goal}", "inputs": {"goal": "{braces}"}, "schema": schema, **planning})
    planner, worker, reducer = models
    made = Planning(**{**{n: getattr(made, n) for n in made.__struct_fields__}, "model": planner})

    async def main():
        async with VLLMPool([AgentEndpoint("a")], "m", transport=transport, concurrency=8) as pool:
            return await run_with_map_reduce(
                made,
                BatchSpec(task=task, output_schema=Answer),
                Reduction(instruction="REDUCE {n}", schema=Report, model=reducer),
                BatchOptions(backend=pool, **(options or {})),
                worker_model=worker,
            )

    results, summary = run_virtual(main())
    return results, summary, [call for _, call in transport.calls]


def test_a_plan_becomes_inputs_and_their_answers_one_report():
    results, summary, calls = run({"questions": ["why", "how"]})
    assert [r.output.answer for r in results] == ["on why", "on how"]
    assert summary.output == Report(text="2 in REDUCE 2")
    assert summary.plan.output == Plan(questions=["why", "how"])
    assert [c.messages[0].content.split("\n")[0] for c in calls] == [
        "PLAN for {braces}",
        "WORK why",
        "WORK how",
        "REDUCE 2",
    ]


def test_each_role_has_its_own_model():
    _, _, calls = run({"questions": ["why"]}, models=("big", "small", "medium"))
    assert [call.model for call in calls] == ["big", "small", "medium"]


def test_without_models_of_their_own_all_have_that_of_the_run():
    _, _, calls = run({"questions": ["why"]}, options={"model": "one"})
    assert {call.model for call in calls} == {"one"}


def test_objects_of_a_plan_are_the_fields_of_their_inputs():
    plan = {"items": [{"name": "cells", "depth": 2}], "rejected": []}
    results, _, _ = run(plan, schema=Topics, task="WORK {index}: {name} to {depth}; {item}")
    assert results[0].output.answer == 'on 0: cells to 2; {"name":"cells","depth":2}'


def test_what_a_planner_writes_is_never_a_template():
    results, _, _ = run({"questions": ["{item} {{x}} }"]})
    assert results[0].output.answer == "on {item} {{x}} }"


def test_a_planner_that_fails_leaves_no_results_and_a_summary_that_says_why():
    results, summary, calls = run("no plan", max_retries=1)
    assert (results, summary.ok, len(calls)) == ([], False, 2)
    assert isinstance(summary.error, errors.InvalidOutputError)
    assert summary.plan.text == "no plan"


def test_a_plan_without_items_is_no_success():
    results, summary, calls = run({"questions": []})
    assert (results, summary.ok, len(calls)) == ([], False, 1)
    assert isinstance(summary.error, errors.QuorumError)


def test_only_the_workers_results_are_told_to_the_callback():
    told = []
    run({"questions": ["a", "b", "c"]}, options={"on_result": lambda r: told.append(r.output.answer)})
    assert sorted(told) == ["on a", "on b", "on c"]


def test_a_second_run_with_the_same_journal_asks_nobody(tmp_path):
    options = {"journal": tmp_path / "j.db"}
    first = run({"questions": ["a", "b"]}, options=options)
    again = run({"questions": ["never asked"]}, options=options)
    assert again[2] == []
    assert again[1].output == first[1].output


def test_workers_may_spend_what_the_planner_left():
    dear = Reply('{"questions":["a","b"]}', usage=Usage(10, 19_980))
    results, summary, calls = run(dear, options={"budget": Budget(tokens=20_000)})
    assert [type(result.error) for result in results] == [errors.BudgetError] * 2
    assert (summary.ok, len(calls)) == (False, 1)
    results, summary, calls = run(dear, options={"budget": Budget(tokens=80_000)})
    assert (summary.ok, len(calls)) == (True, 4)


class NoList(BaseModel):
    text: str


class TwoLists(BaseModel):
    a: list[str]
    b: list[str]


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": NoList},
        {"schema": TwoLists},
        {"schema": None},
        {"prompt": "PLAN {missing}"},
        {"prompt": "{"},
        {"task": "WORK {question}"},
        {"schema": Topics, "task": "WORK {nmae}"},
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(wrong):
    with pytest.raises(errors.UsageError) as caught:
        run({"questions": ["a"]}, **wrong)
    assert caught.value.remedy


async def test_all_three_phases_run_on_one_pool_over_real_sockets():
    answer = json.dumps({"questions": ["a", "b", "c"], "answer": "x", "text": "y"})
    async with SimulatedFleet([ServerPlan(answer=answer)] * 2) as fleet:
        results, summary = await run_with_map_reduce(
            Planning(prompt="Plan", schema=Plan),
            BatchSpec(task="Work on {item}", output_schema=Answer),
            Reduction(instruction="Merge {n}", schema=Report),
            BatchOptions(backend=[endpoint.url for endpoint in fleet.endpoints]),
        )
        counts = fleet.counts()
    assert (len(results), summary.output, counts.sequences) == (3, Report(text="y"), 5)
