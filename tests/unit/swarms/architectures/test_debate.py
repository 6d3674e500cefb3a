"""Debates at tables, and who decides."""

import re

from aurora_swarm import errors
from aurora_swarm.swarms.architectures.debate import DebaterAgent, DebatingAgents
from aurora_swarm.swarms.architectures.roles import JudgeAgent

from .conftest import ERROR, on_agents


def convinced(prompt):
    """Agents say red until they read that somebody says blue; who is stubborn says blue."""
    if "A debate ended" in prompt:
        said = re.findall(r"^\d+\. (\w+)$", prompt, re.MULTILINE)
        return f"judged{len(said)}"
    if prompt.startswith("You fail"):
        return errors.RequestRejectedError(ERROR)
    return "blue" if prompt.startswith("You are stubborn") or ": blue" in prompt else "red"


def debating(systems, judged=False, **options):
    async def run(pool):
        debaters = tuple(DebaterAgent(pool, system=system) for system in systems)
        judge = JudgeAgent(pool) if judged else None
        return await DebatingAgents(debaters, judge, **options).run("Which {colour}?")

    return on_agents(run, convinced)


def test_debaters_read_each_other_and_the_majority_decides():
    outcome, prompts = debating(["You are stubborn", "", "", ""])
    assert (outcome.answer, outcome.confidence, outcome.n_ok) == ("blue", 1.0, 4)
    assert len(prompts) == 8


def test_a_judge_decides():
    outcome, prompts = debating(["You are stubborn", ""], judged=True)
    assert (outcome.answer, outcome.confidence) == ("judged2", None)
    assert [part.stage for part in outcome.parts] == ["debate"] * 4 + ["judge"]
    assert prompts[-1].startswith("Which {colour}?")


def test_tables_do_not_hear_each_other():
    outcome, _ = debating(["You are stubborn", "", "", ""], table=2)
    assert outcome.confidence == 0.5


def test_no_prompt_grows_with_the_debaters():
    def longest(size):
        outcome, prompts = debating([""] * size, judged=True, rounds=3)
        assert outcome.n_ok == size
        return max(map(len, prompts))

    assert longest(128) < 1.2 * longest(8)


def test_failures_are_left_out_and_too_many_are_an_error():
    outcome, prompts = debating(["You fail", "", ""])
    assert (outcome.answer, outcome.n_ok, outcome.n_failed) == ("red", 2, 1)
    assert ERROR not in "".join(prompts)

    outcome, _ = debating(["You fail", "", ""], quorum=3)
    assert isinstance(outcome.error, errors.QuorumError)
    assert outcome.answer == ""


def test_a_table_without_quorum_ends_while_others_go_on():
    outcome, prompts = debating(["You fail", "You fail", "", ""], table=2)
    assert (outcome.answer, outcome.n_ok, outcome.n_failed) == ("red", 2, 2)
    assert len(prompts) == 6
