"""Rounds in which all read the same beginning."""

import itertools
import re

import pytest

from aurora_swarm import errors
from aurora_swarm.patterns.debate import debate

from .conftest import on_fleet


def convinced(call, endpoint):
    """Agent 1 says blue from the start, the others once they have read it."""
    prompt = call.messages[-1].content
    if prompt.endswith("Decide."):
        return "The judge says green."
    agent = re.search(r"You are agent (\d+)", prompt).group(1)
    return "blue" if agent == "1" or "blue" in prompt else "red"


def test_agents_read_what_all_said_and_the_majority_decides():
    result, prompts = on_fleet(lambda pool: debate(pool, "Which colour?", 5, 2), script=convinced)
    assert (result.answer, result.confidence) == ("blue", 1.0)
    assert [[r.text for r in each] for each in result.rounds] == [["blue", *["red"] * 4], ["blue"] * 5]
    assert len(prompts) == result.attempts == 10
    assert "Round 2:\nAgent 1: blue" in result.transcript


def common_beginning(texts):
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in same)


def test_what_all_share_stands_first_and_only_grows():
    _, prompts = on_fleet(lambda pool: debate(pool, "Which colour?", 4, 3), script=convinced)
    rounds = [prompts[n : n + 4] for n in range(0, 12, 4)]
    shared = [common_beginning(each) for each in rounds]
    assert all(common.endswith("You are agent ") for common in shared)
    heads = [common.removesuffix("\nYou are agent ") for common in shared]
    assert heads[1].startswith(heads[0])
    assert heads[2].startswith(heads[1])


def test_a_judge_may_decide():
    result, prompts = on_fleet(lambda pool: debate(pool, "Which?", 3, 1, judge_prompt="Decide."), script=convinced)
    assert result.answer == "The judge says green."
    assert len(prompts) == 4


def test_a_failure_is_left_out_and_too_many_end_the_debate():
    def script(call, endpoint):
        agent = int(re.search(r"You are agent (\d+)", call.messages[-1].content).group(1))
        return errors.RequestRejectedError("no") if agent > 3 else "red"

    result, _ = on_fleet(lambda pool: debate(pool, "Which?", 4, 2, quorum=0.75), script=script)
    assert result.answer == "red"
    assert "Agent 4" not in result.transcript
    result, prompts = on_fleet(lambda pool: debate(pool, "Which?", 8, 2), script=script)
    assert isinstance(result.error, errors.QuorumError)
    assert (result.answer, len(prompts)) == ("", 8)


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0)])
def test_numbers_are_checked(numbers):
    async def use(pool):
        with pytest.raises(errors.UsageError):
            await debate(pool, "Which?", *numbers)

    assert on_fleet(use)[1] == []
