"""An objective in, an answer out: the plan, what results bring about, the bounds, the steering, what is said of it."""

import asyncio
import json
import re

import numpy as np
import pytest

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import (
    BudgetError,
    PlanError,
    QuorumError,
    RequestRejectedError,
    TaskCancelledError,
    UsageError,
)
from aurora_swarm.memory.open import open_store
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.swarms.briefs import PLANNER, REVIEWER
from aurora_swarm.swarms.happenings import (
    Consolidating,
    PlanMade,
    SwarmBegan,
    SwarmEnded,
    TaskEnded,
    TasksAdded,
    WorkersScaled,
)
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.pursuit import SIDE_BY_SIDE
from aurora_swarm.swarms.swarm import Swarm
from aurora_swarm.swarms.work import TaskState
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import Reply, Usage

NO = RequestRejectedError("canary-91")


def task(title, *after):
    return {"title": title, "instructions": f"Do {title}.", "after": list(after)}


def more(title):
    return {"title": title, "instructions": f"Do {title}."}


def plan_of(*tasks):
    return json.dumps({"tasks": list(tasks)})


THREE = plan_of(task("a"), task("b"), task("c", 1, 2))


class Mimic:
    """A model that plans as it is told to, reviews by a table, works by repeating titles, and merges faithfully.

    Args:
        plan: What the planner says.
        further: What the reviewer says, by the title of the task whose result it looks at.
        fails: Titles of tasks that are refused, or ``merge``.
        takes_s: Seconds for each answer.
        usage: Tokens of each.
    """

    def __init__(self, plan=THREE, further=None, fails=(), *, takes_s=1.0, usage=Usage(20, 5)):  # noqa: B008 - frozen
        self.usage = usage
        self.plan = plan
        self.further = further or {}
        self.fails = fails
        self.transport = ScriptedTransport(self, delay_s=takes_s, batches=False)

    def __call__(self, call, _endpoint):
        said = self.answer(call)
        return said if isinstance(said, RequestRejectedError) else Reply(said, usage=self.spent(call))

    def spent(self, call):
        asked = call.sampling.max_tokens or self.usage.completion_tokens
        return Usage(self.usage.prompt_tokens, min(asked, self.usage.completion_tokens))

    def answer(self, call):
        system, prompt = call.messages[0].content, "\n".join(message.content for message in call.messages[:2])
        if system.startswith(PLANNER):
            return self.plan
        if system.startswith(REVIEWER):
            title = re.search(r"=== result ===\n(.*)", prompt)[1]
            return plan_of(*self.further.get(title, ()))
        if "=== answer 1 ===" in prompt:
            return NO if "merge" in self.fails else " ".join(re.findall(r"<[^>]+>", prompt))
        title = re.search(r"Task: (.*)", prompt)[1]
        return NO if title in self.fails else f"<{title}>"

    @property
    def prompts(self):
        return [message.content for _, call in self.transport.calls for message in call.messages]


def on(mimic, use, **options):
    """Run something of a swarm of up to four workers in virtual time, and see that nothing of it is left."""

    async def main():
        async with VLLMPool([AgentEndpoint("n", 8000)], "m", transport=mimic.transport) as pool:
            nodes = options.pop("nodes", 4)
            swarm = Swarm(Orchestrator(Model(backend=pool), nodes), **{"objective": "Win."} | options)
            result = await use(swarm)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return run_virtual(main())


def run(mimic, **options):
    return on(mimic, lambda swarm: swarm.run(), **options)


async def events_of(swarm):
    return [event async for event in swarm.stream()]


def titles(outcome):
    return [record.spec.title for record in outcome.tasks]


# -- plan, work, answer ------------------------------------------------------------------------------------------------


def test_an_objective_is_split_worked_on_and_answered():
    mimic = Mimic()
    outcome = run(mimic)
    assert (outcome.answer, outcome.error, outcome.notes) == ("<a> <b> <c>", None, ())
    assert titles(outcome) == ["a", "b", "c"]
    assert outcome.usage == Usage(20 * 8, 5 * 8)  # a plan, three tasks, three reviews, one consolidation
    given = next(prompt for prompt in mimic.prompts if "Task: c" in prompt)
    assert "<a>" in given
    assert "<b>" in given
    assert "Win." in given
    assert "<" not in next(prompt for prompt in mimic.prompts if "Task: b" in prompt)


def test_it_can_be_watched_from_the_first_moment_to_the_outcome():
    events = on(Mimic(), events_of, auto=False)
    kinds = [type(event) for event in events if not isinstance(event, WorkersScaled)]
    assert kinds == [SwarmBegan, PlanMade, TaskEnded, TaskEnded, TaskEnded, Consolidating, SwarmEnded]
    assert events[-1].outcome.answer == "<a> <b> <c>"


def test_the_number_of_workers_follows_the_tasks_that_can_be_worked_on():
    mimic = Mimic(plan_of(task("a"), task("b", 1), task("c", 1), task("d", 1), task("e", 2, 3, 4)))
    events = on(mimic, events_of, auto=False, nodes=3)
    assert [event.workers for event in events if isinstance(event, WorkersScaled)] == [1, 3, 1]


def test_who_listens_and_raises_is_not_called_again_and_harms_nobody():
    def listener(event):
        heard.append(event)
        raise ValueError("secret")

    heard = []
    outcome = run(Mimic(), auto=False, on_event=listener)
    assert outcome.answer == "<a> <b> <c>"
    assert len(heard) == 1
    assert outcome.notes == ("on_event raised ValueError and was not called again",)


def test_a_swarm_pursues_several_objectives_at_once():
    outcomes = on(Mimic(), lambda swarm: asyncio.gather(*(swarm.run(f"Win {n}.") for n in range(3))), auto=False)
    assert [outcome.objective for outcome in outcomes] == ["Win 0.", "Win 1.", "Win 2."]
    assert len({record.id for outcome in outcomes for record in outcome.tasks}) == 9


def test_what_is_known_from_elsewhere_is_told_in_an_envelope():
    mimic = Mimic()
    on(mimic, lambda swarm: swarm.run(context="=== end of what is known === {x}"), auto=False)
    assert "==== what is known ====\n=== end of what is known === {x}\n" in mimic.prompts[1]
    assert "{x}" in next(prompt for prompt in mimic.prompts if "Task: a" in prompt)


# -- plans that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["I would rather not.", '{"tasks": []}', plan_of(task(" ")).replace("Do  .", "")])
def test_without_a_usable_plan_the_objective_is_worked_on_as_one_task(plan):
    outcome = run(Mimic(plan), auto=False)
    assert titles(outcome) == ["Win."]
    assert outcome.answer == "<Win.>"
    assert outcome.notes[0].endswith("the objective was worked on as one task")


def test_a_plan_that_was_cut_off_is_used_as_far_as_it_goes():
    outcome = run(Mimic(plan_of(task("a"), task("b"))[:-2] + ', {"title": "c'), auto=False)
    assert titles(outcome) == ["a", "b"]
    assert outcome.notes == ("the plan was cut off, and its whole tasks were taken",)


def test_with_one_task_there_is_no_plan_and_nothing_to_consolidate():
    mimic = Mimic()
    assert run(mimic, max_tasks=1).answer == "<Win.>"
    assert len(mimic.transport.calls) == 1


def test_a_planner_that_cannot_be_asked_is_an_error():
    mimic = Mimic(NO)
    outcome = run(mimic)
    assert isinstance(outcome.error, PlanError)
    assert (outcome.answer, outcome.tasks) == ("", ())


@pytest.mark.parametrize("wrong", [{"objective": " "}, {"max_tasks": 0}, {"max_depth": -1}, {"consolidate": "{x}"}])
def test_what_cannot_be_meant_is_refused_before_anything_is_asked(wrong):
    mimic = Mimic()
    with pytest.raises(UsageError):
        run(mimic, **wrong)
    assert not mimic.transport.calls


# -- further tasks -----------------------------------------------------------------------------------------------------


def test_results_bring_about_further_tasks_that_build_on_them():
    mimic = Mimic(plan_of(task("a")), {"a": [more("x"), more("y")]})
    events = on(mimic, events_of)
    outcome = events[-1].outcome
    added = next(event for event in events if isinstance(event, TasksAdded))
    assert titles(outcome) == ["a", "x", "y"]
    assert [spec.parent for spec in added.tasks] == [outcome.tasks[0].id] * 2
    assert "<a>" in next(prompt for prompt in mimic.prompts if "Task: x" in prompt)
    assert outcome.answer == "<a> <x> <y>"


def test_a_last_result_that_brings_about_a_task_keeps_the_run_going():
    outcome = run(Mimic(plan_of(task("a")), {"a": [more("x")], "x": [more("y")], "y": [more("z")]}, takes_s=3.0))
    assert titles(outcome) == ["a", "x", "y"]  # z would be the third generation


@pytest.mark.parametrize(("bounds", "count"), [({"max_tasks": 7}, 7), ({"max_depth": 1}, 12), ({"auto": False}, 3)])
def test_further_tasks_are_bounded(bounds, count):
    further = {title: [more(f"{title}{n}") for n in range(3)] for title in ("a", "b", "c", "a0", "a1", "b0")}
    outcome = run(Mimic(further=further), **bounds)
    assert len(outcome.tasks) == count
    assert outcome.ok


def test_a_task_that_is_there_already_is_not_added_again():
    again = more("b")
    other_words = more("B!") | {"instructions": "Something else."}
    same_for_two = more("x")
    outcome = run(Mimic(further={"a": [again, other_words, same_for_two], "b": [same_for_two]}))
    assert titles(outcome) == ["a", "b", "c", "x"]


def test_a_review_that_fails_costs_only_what_it_would_have_found():
    mimic = Mimic()
    mimic.further = {"a": [{"nonsense": 1}]}
    outcome = run(mimic)
    assert outcome.answer == "<a> <b> <c>"
    assert outcome.notes == ("further tasks could not be thought of for 1 results (invalid_output)",)


class Letters:
    """Turns a text into what letters it has: texts of the same letters mean the same."""

    name = "letters"

    async def embed(self, texts):
        counts = np.array([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], dtype=np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)

    async def aclose(self):
        """Nothing is held."""


def test_with_a_memory_a_task_in_other_words_is_not_done_twice():
    title, other_words = "weigh the silent apples", "the apples listen weigh"

    async def main():
        mimic = Mimic(plan_of(task(title)), {title: [more(other_words)]})
        async with (
            open_store("memory://", embedder=Letters()) as store,
            VLLMPool([AgentEndpoint("n", 8000)], "m", transport=mimic.transport) as pool,
        ):
            orchestrator = Orchestrator(Model(backend=pool), 2)
            swarms = [Swarm(orchestrator, objective="Win.", memory=memory) for memory in (None, store, store)]
            return [len((await swarm.run()).tasks) for swarm in swarms]

    assert run_virtual(main()) == [2, 1, 1]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_failed_tasks_are_left_out_and_named_and_their_errors_reach_no_prompt():
    mimic = Mimic(plan_of(task("a"), task("b"), task("c"), task("d", 3)), fails={"c"})
    outcome = run(mimic)
    assert outcome.answer == "<a> <b>"
    assert outcome.notes == ("not in the answer: 'c' (request_rejected)", "not in the answer: 'd' (task_cancelled)")
    assert (outcome.n_ok, outcome.n_failed) == (2, 2)
    assert not any("canary-91" in prompt for prompt in mimic.prompts)


def test_where_nothing_is_done_there_is_an_error_and_no_answer():
    mimic = Mimic(fails={"a", "b"})
    outcome = run(mimic)
    assert isinstance(outcome.error, QuorumError)
    assert "none of 3 tasks has an answer" in str(outcome.error)
    assert outcome.answer == ""
    assert not any("=== answer" in prompt for prompt in mimic.prompts)


def test_answers_that_could_not_be_made_one_stand_side_by_side():
    outcome = run(Mimic(fails={"merge"}), auto=False)
    assert outcome.answer == "a\n\n<a>\n\nb\n\n<b>\n\nc\n\n<c>"
    assert outcome.notes == (f"{SIDE_BY_SIDE}, for they could not be made one (request_rejected)",)


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_a_budget_is_kept_and_leaves_enough_for_the_answer():
    mimic = Mimic(plan_of(*(task(f"t{n}") for n in range(8))), usage=Usage(100, 1_500))
    outcome = run(mimic, budget=Budget(tokens=14_000), auto=False, max_tasks=8)
    assert outcome.n_ok >= 5
    assert outcome.n_failed >= 1
    assert {record.error.kind for record in outcome.tasks if record.error} == {"budget"}
    assert outcome.ok
    assert not any(note.startswith(SIDE_BY_SIDE) for note in outcome.notes)
    assert outcome.answer == " ".join(record.text for record in outcome.tasks if record.ok)
    assert outcome.usage.total_tokens <= 14_000


def test_a_purse_from_above_bounds_it_too_and_what_it_spends_shows_there():
    purse = Purse(Budget(tokens=1_000))
    outcome = on(Mimic(), lambda swarm: swarm.run(purse=purse))
    assert isinstance(outcome.error, BudgetError)
    assert purse.statistics().tokens <= 1_000
    purse = Purse(Budget(tokens=1_000_000))
    outcome = on(Mimic(), lambda swarm: swarm.run(purse=purse))
    assert purse.statistics().tokens == outcome.usage.total_tokens == 200


@pytest.mark.parametrize("width", [1, 2])
def test_with_few_places_reviews_and_consolidation_wait_for_one(width):
    mimic = Mimic(plan_of(task("a"), task("b"), task("c")), {"a": [more("x")], "b": [more("y")]})
    outcome = run(mimic, budget=Budget(width=width))
    assert sorted(titles(outcome)) == ["a", "b", "c", "x", "y"]
    assert sorted(outcome.answer.split()) == ["<a>", "<b>", "<c>", "<x>", "<y>"]
    assert outcome.notes == ()


def test_where_nobody_may_work_it_is_an_error_and_not_a_wait():
    assert isinstance(run(Mimic(), budget=Budget(width=0)).error, BudgetError)


def test_reviews_do_not_spend_what_is_kept_for_the_answer():
    further = {f"t{n}": [more(f"t{n}.{m}") for m in range(3)] for n in range(4)}
    mimic = Mimic(plan_of(*(task(f"t{n}") for n in range(4))), further, usage=Usage(400, 400))
    outcome = run(mimic, budget=Budget(tokens=12_000))
    assert outcome.n_ok >= 4
    assert not any(note.startswith(SIDE_BY_SIDE) for note in outcome.notes)
    assert outcome.answer == " ".join(record.text for record in outcome.tasks if record.ok)


# -- steering ----------------------------------------------------------------------------------------------------------


async def steered(swarm, when, do):
    """The outcome where something is done to the run at a moment."""

    async def act(controls):
        await asyncio.sleep(when)
        await do(controls)

    async with asyncio.TaskGroup() as group:
        async for event in swarm.stream():
            if isinstance(event, SwarmBegan):
                group.create_task(act(event.controls))
    return event.outcome


@pytest.mark.parametrize("when", [0.5, 1.5, 2.5, 3.5, 4.5])
def test_a_paused_run_asks_nothing_until_it_goes_on(when):
    mimic, counts = Mimic(), []

    async def do(controls):
        controls.pause(controls.id)
        assert controls.status().phase == "paused"
        counts.append(len(mimic.transport.calls))
        await asyncio.sleep(100)
        counts.append(len(mimic.transport.calls))
        controls.resume(controls.id)

    outcome = on(mimic, lambda swarm: steered(swarm, when, do))
    assert counts[0] == counts[1]
    assert outcome.answer == "<a> <b> <c>"


def test_a_cancelled_run_answers_from_what_is_done():
    async def do(controls):
        controls.cancel(controls.id)

    plan = plan_of(task("a"), task("b"), task("c", 1), task("d", 3))
    outcome = on(Mimic(plan, {"a": [more("x")]}), lambda swarm: steered(swarm, 2.5, do))
    assert outcome.answer == "<a> <b>"
    assert {record.state for record in outcome.tasks} == {TaskState.DONE, TaskState.CANCELLED}


def test_a_run_that_is_cancelled_before_it_has_a_plan_has_no_answer():
    async def do(controls):
        controls.cancel(controls.id)

    outcome = on(Mimic(), lambda swarm: steered(swarm, 0.5, do))
    assert isinstance(outcome.error, TaskCancelledError)


def test_what_is_said_to_a_run_is_heard_by_all_who_are_asked_from_then_on():
    mimic = Mimic()

    async def do(controls):
        controls.steer(controls.id, "Be brief.")

    on(mimic, lambda swarm: steered(swarm, 1.5, do), auto=False)
    heard = ["Be brief." in [message.content for message in call.messages] for _, call in mimic.transport.calls]
    assert heard == [False, False, False, True, True]


@pytest.mark.parametrize("steps", range(1, 40, 3))
def test_cancelling_ends_all_of_it_wherever_it_is(steps):
    async def use(swarm):
        run = asyncio.ensure_future(swarm.run())
        for _ in range(steps):
            await asyncio.sleep(0.13)
        run.cancel()
        return (await asyncio.gather(run, return_exceptions=True))[0]

    assert isinstance(on(Mimic(further={"a": [more("x")]}), use), asyncio.CancelledError)


def test_who_stops_watching_ends_the_run():
    async def use(swarm):
        events = swarm.stream()
        async for event in events:
            if isinstance(event, TaskEnded):
                break
        await events.aclose()

    mimic = Mimic()
    on(mimic, use)
    assert len(mimic.transport.calls) < 8
