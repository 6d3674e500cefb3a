"""Layers that read the layer before, and an aggregator."""

import re

from aurora_swarm import errors
from aurora_swarm.swarms.architectures.mixture import AggregatorAgent, MixtureOfAgents, ProposerAgent

from .conftest import ERROR, among, on_agents


def script(prompt):
    """Proposers give their name, and behind it what they have read; the aggregator counts."""
    if "Make the best answer" in prompt:
        return "+".join(re.findall(r"^\d+\. (\S+)$", prompt, re.MULTILINE))
    name = re.match(r"You are (\w+)", prompt).group(1)
    return (
        errors.RequestRejectedError(ERROR)
        if name == "broken"
        else name + "".join(f"({each})" for each in among(prompt))
    )


def mixed(*layers, answers=script, **options):
    async def run(pool):
        proposers = tuple(tuple(ProposerAgent(pool, system=f"You are {name}") for name in layer) for layer in layers)
        return await MixtureOfAgents(proposers, AggregatorAgent(pool), **options).run("Which {way}?")

    return on_agents(run, answers)


def test_each_layer_reads_the_one_before_and_the_aggregator_the_last():
    outcome, prompts = mixed("ab", "cd")
    assert outcome.answer == "c(a)(b)+d(a)(b)"
    assert (outcome.n_ok, outcome.confidence, len(prompts)) == (2, None, 5)
    assert [part.stage for part in outcome.parts] == ["layer 1"] * 2 + ["layer 2"] * 2 + ["aggregate"]


def test_failures_are_not_read_and_too_many_end_it():
    outcome, prompts = mixed(("a", "broken", "b"), "c")
    assert outcome.answer == "c(a)(b)"
    assert ERROR not in "".join(prompts)

    outcome, prompts = mixed(("a", "broken", "broken"), "c")
    assert isinstance(outcome.error, errors.QuorumError)
    assert (outcome.n_ok, outcome.n_failed, len(prompts)) == (1, 2, 3)


def test_prompts_do_not_grow_with_the_width_and_all_are_read():
    def widest(size):
        names = [f"n{place}" for place in range(size)]

        def brief(prompt):
            return "refined" if "answers; some" in prompt else script(prompt)

        outcome, prompts = mixed(names, names, answers=brief)
        refining = [among(prompt) for prompt in prompts if among(prompt)]
        assert outcome.n_ok == size
        assert {name for shown in refining for name in shown} == set(names)
        return max(map(len, refining)), max(map(len, prompts))

    shown, longest = widest(64)
    assert shown == 8
    assert longest < 1.5 * widest(8)[1]
