"""Aspects in parallel, then one decision of all."""

import json
import re

from aurora_swarm import errors
from aurora_swarm.swarms.architectures.collaborative import Collaborative, CollaborativeAgent

from .conftest import ERROR, among, on_agents


def script(prompt):
    """Proposes its aspect; votes for the longest proposal; agrees with the first, unless it is stubborn."""
    aspect = re.search(r"Your aspect of it: (\w+)", prompt).group(1)
    shown = among(prompt)
    if aspect == "broken":
        return errors.RequestRejectedError(ERROR)
    if "Give its number" in prompt:
        return json.dumps({"choice": 1 + max(range(len(shown)), key=lambda place: len(shown[place]))})
    return shown[0] if shown and not aspect.startswith("stubborn") else aspect


def together(aspects, **options):
    async def run(pool):
        return await Collaborative(tuple(CollaborativeAgent(pool, aspect=each) for each in aspects), **options).run(
            "Plan {it}"
        )

    return on_agents(run, script)


def test_each_works_on_its_aspect_and_all_vote():
    outcome, prompts = together(["cost", "safety", "time"])
    assert (outcome.answer, outcome.confidence, outcome.n_ok) == ("safety", 1.0, 3)
    assert [part.stage for part in outcome.parts] == ["propose"] * 3 + ["vote"] * 3
    assert all(prompt.startswith("Plan {it}") for prompt in prompts)


def test_where_all_propose_the_same_nobody_votes():
    outcome, prompts = together(["cost"] * 3)
    assert (outcome.answer, outcome.confidence, len(prompts)) == ("cost", 1.0, 3)


def test_a_consensus_is_looked_for_round_by_round():
    outcome, prompts = together(["cost", "safety", "time"], decide="consensus")
    assert (outcome.answer, outcome.confidence, len(prompts)) == ("cost", 1.0, 6)

    outcome, prompts = together(["cost", "stubborn"], decide="consensus", rounds=3, agreement=1.0)
    assert (outcome.confidence, len(prompts)) == (0.5, 8)


def test_failures_are_not_shown_and_too_many_are_an_error():
    outcome, prompts = together(["cost", "broken", "time"])
    assert (outcome.answer, outcome.n_ok, outcome.n_failed) == ("cost", 2, 1)
    assert ERROR not in "".join(prompts)

    for decide in ("vote", "consensus"):
        outcome, prompts = together(["cost", "broken", "broken"], decide=decide)
        assert isinstance(outcome.error, errors.QuorumError)
        assert len(prompts) == 3


def test_ballots_do_not_grow_with_the_collaborators():
    outcome, prompts = together([f"aspect{n}" for n in range(100)])
    assert outcome.n_ok == 100
    assert max(len(among(prompt)) for prompt in prompts) == 8
