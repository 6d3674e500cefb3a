"""A leader distributes, workers work on their own part, the leader makes the answer."""

import json
import re

import pytest

from aurora_swarm import errors
from aurora_swarm.swarms.architectures.hierarchical import Hierarchical, LeaderAgent, WorkerAgent

from .conftest import ERROR, on_agents


def script(prompt):
    """A leader who plans three parts and adds up, workers who square their number."""
    if "Divide this" in prompt:
        return json.dumps({"parts": ["2", "3", "4"]})
    if "Your workers brought" in prompt:
        return str(sum(map(int, re.findall(r"^\d+\. (\d+)$", prompt, re.MULTILINE))))
    return str(int(re.search(r"<material>\n(\d+)", prompt).group(1)) ** 2)


def crew(pool, workers=3, merge=None, **options):
    return Hierarchical(LeaderAgent(pool, merge=merge), (WorkerAgent(pool),) * workers, **options)


def test_the_leader_plans_collects_and_processes():
    outcome, prompts = on_agents(lambda pool: crew(pool).run("Sum of squares of {2, 3, 4}"), script)

    assert (outcome.answer, outcome.output, outcome.error) == ("29", "29", None)
    assert (outcome.n_ok, outcome.n_failed, len(prompts)) == (3, 0, 5)
    assert [part.stage for part in outcome.parts] == ["distribute", "work", "work", "work", "process"]
    assert {part.agent for part in outcome.parts[1:4]} == {"work 1", "work 2", "work 3"}
    assert outcome.usage.completion_tokens > 4


def test_parts_that_are_given_need_no_plan_and_a_function_no_second_call_of_the_leader():
    def total(task, results):
        return f"{task}: {sum(int(each.text) for each in results if each.success)}"

    outcome, prompts = on_agents(lambda pool: crew(pool, 2, total).run("Sum", [str(n) for n in range(7)]), script)

    assert outcome.answer == "Sum: 91"
    assert len(prompts) == 7
    assert all(prompt.startswith("Sum\n\nYour part:") for prompt in prompts)


def test_a_worker_sees_nothing_but_the_task_and_its_own_part():
    _, prompts = on_agents(lambda pool: crew(pool).run("Square", ["11", "12", "13"]), script)

    for own, others in (("11", ("12", "13")), ("12", ("11", "13"))):
        (prompt,) = [each for each in prompts if f"<material>\n{own}\n" in each]
        assert not any(other in prompt for other in others)


def test_failures_are_counted_and_never_shown():
    def failing(prompt):
        return errors.RequestRejectedError(ERROR) if "<material>\n3\n" in prompt else script(prompt)

    outcome, prompts = on_agents(lambda pool: crew(pool).run("Sum of squares"), failing)
    assert (outcome.answer, outcome.n_ok, outcome.n_failed) == ("20", 2, 1)
    assert ERROR not in "".join(prompts)

    outcome, prompts = on_agents(lambda pool: crew(pool, quorum=3).run("Sum of squares"), failing)
    assert isinstance(outcome.error, errors.QuorumError)
    assert (outcome.answer, outcome.output, outcome.ok) == ("", None, False)
    assert not any("Your workers brought" in prompt for prompt in prompts)


def test_a_plan_that_fails_is_the_error_and_nobody_works():
    outcome, prompts = on_agents(lambda pool: crew(pool).run("Sum"), lambda prompt: "no plan")

    assert isinstance(outcome.error, errors.InvalidOutputError)
    assert all("Divide this" in prompt for prompt in prompts)


def test_a_quorum_in_numbers_is_what_the_leader_must_plan():
    def lazy(prompt):
        return json.dumps({"parts": ["2"]}) if "Divide this" in prompt else script(prompt)

    outcome, _ = on_agents(lambda pool: crew(pool, quorum=2).run("Sum"), lazy)
    assert isinstance(outcome.error, errors.InvalidOutputError)
    outcome, _ = on_agents(lambda pool: crew(pool, quorum=0.9).run("Sum"), lazy)
    assert (outcome.answer, outcome.n_ok) == ("4", 1)


def test_the_leaders_prompts_do_not_grow_with_the_workers():
    def longest(size):
        parts = [str(n) for n in range(size)]
        outcome, prompts = on_agents(lambda pool: crew(pool, size).run("Sum", parts), script)
        assert outcome.n_ok == size
        assert int(outcome.answer) == sum(n * n for n in range(size))
        return max(map(len, prompts))

    assert longest(256) < 1.5 * longest(8)


@pytest.mark.parametrize(("workers", "parts"), [(0, ["1"]), (1, [])])
def test_nobody_and_nothing_are_refused(workers, parts):
    async def use(pool):
        with pytest.raises(errors.UsageError):
            await crew(pool, workers).run("Sum", parts)

    assert on_agents(use, script)[1] == []
