"""What becomes of the whole when members fail, and when there are many of them."""

import json
import random

import pytest

from aurora_swarm import errors
from aurora_swarm.swarms.architectures.collaborative import Collaborative, CollaborativeAgent
from aurora_swarm.swarms.architectures.competitive import Competitive, CompetitiveAgent
from aurora_swarm.swarms.architectures.debate import DebaterAgent, DebatingAgents
from aurora_swarm.swarms.architectures.hierarchical import Hierarchical, LeaderAgent, WorkerAgent
from aurora_swarm.swarms.architectures.mixture import AggregatorAgent, MixtureOfAgents, ProposerAgent
from aurora_swarm.swarms.architectures.roles import JudgeAgent

from .conftest import ERROR, among, on_agents

FRONTS = {
    "hierarchical": lambda pool, n: Hierarchical(LeaderAgent(pool), (WorkerAgent(pool),) * n),
    "collaborative": lambda pool, n: Collaborative((CollaborativeAgent(pool),) * n),
    "consensus": lambda pool, n: Collaborative((CollaborativeAgent(pool),) * n, "consensus"),
    "judge": lambda pool, n: Competitive((CompetitiveAgent(pool),) * n, JudgeAgent(pool)),
    "debate": lambda pool, n: DebatingAgents((DebaterAgent(pool),) * n, JudgeAgent(pool)),
    "mixture": lambda pool, n: MixtureOfAgents(((ProposerAgent(pool),) * n,) * 2, AggregatorAgent(pool)),
}


@pytest.fixture(params=FRONTS)
def front(request):
    return FRONTS[request.param]


def run(front, size, script, **options):
    """One run over as many members, and as many parts where there are parts."""

    async def use(pool):
        made = front(pool, size)
        if isinstance(made, Hierarchical):
            return await made.run("What?", [f"part {place:04}" for place in range(size)])
        return await made.run("What?")

    return on_agents(use, script, **options)


def answering(dice, failing=0.0):
    """Answers of constant length that differ; some calls fail for good."""

    def script(prompt):
        if dice.random() < failing:
            return errors.RequestRejectedError(ERROR)
        if "Give its number" in prompt:
            name = "best" if "of them" in prompt else "choice"
            return json.dumps({name: 1 + dice.randrange(len(among(prompt)))})
        return f"answer {dice.randrange(10_000):04}"

    return script


def test_a_fifth_of_the_calls_fails_and_what_is_left_answers(front):
    ended = {"answers": 0, "errors": 0}
    for seed in range(25):
        outcome, prompts = run(front, 6, answering(random.Random(seed), 0.2), seed=seed)
        assert ERROR not in "".join(prompts)
        assert outcome.n_ok + outcome.n_failed == 6
        assert bool(outcome.answer) == outcome.ok
        assert outcome.error is None or isinstance(outcome.error, errors.CallError)
        assert outcome.n_ok >= 3 or not outcome.ok
        ended["answers" if outcome.ok else "errors"] += 1
    assert ended["answers"] >= 15  # the last call, of a judge or a leader, fails in a fifth of the runs


def test_no_prompt_grows_from_8_members_to_512(front):
    longest = {}
    for size in (8, 512):
        outcome, prompts = run(front, size, answering(random.Random(1)), delay_s=0.1)
        assert (outcome.error, outcome.n_ok, outcome.n_failed) == (None, size, 0)
        longest[size] = max(map(len, prompts))
    assert longest[512] <= 1.05 * longest[8]
