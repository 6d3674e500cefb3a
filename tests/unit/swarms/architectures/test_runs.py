"""What holds for all architectures: isolation, purses, time, cancellation, and models that are opened once."""

import asyncio
import itertools
import json

import pytest

from aurora_swarm import errors
from aurora_swarm.agents.budgets import Purse
from aurora_swarm.swarms.architectures.collaborative import Collaborative, CollaborativeAgent
from aurora_swarm.swarms.architectures.competitive import Competitive, CompetitiveAgent
from aurora_swarm.swarms.architectures.debate import DebaterAgent, DebatingAgents
from aurora_swarm.swarms.architectures.hierarchical import Hierarchical, LeaderAgent, WorkerAgent
from aurora_swarm.swarms.architectures.mixture import AggregatorAgent, MixtureOfAgents, ProposerAgent
from aurora_swarm.swarms.architectures.roles import JudgeAgent
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.models import Model
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.values.budget import Budget

from .conftest import among, on_agents

FRONTS = {
    "hierarchical": lambda model: Hierarchical(LeaderAgent(model), (WorkerAgent(model),) * 3),
    "collaborative": lambda model: Collaborative((CollaborativeAgent(model),) * 3),
    "consensus": lambda model: Collaborative((CollaborativeAgent(model),) * 3, "consensus"),
    "agreement": lambda model: Competitive((CompetitiveAgent(model),) * 5),
    "judge": lambda model: Competitive((CompetitiveAgent(model),) * 3, JudgeAgent(model)),
    "debate": lambda model: DebatingAgents((DebaterAgent(model),) * 3, JudgeAgent(model)),
    "mixture": lambda model: MixtureOfAgents(((ProposerAgent(model),) * 3,) * 2, AggregatorAgent(model)),
}


NUMBERS = itertools.count()


def script(prompt):
    """Answers that differ from call to call, in the form that is asked for."""
    if "Divide this" in prompt:
        return json.dumps({"parts": ["one", "two", "three"]})
    if "Give its number" in prompt:
        return json.dumps({"best" if "of them" in prompt else "choice": len(among(prompt))})
    return f"answer {next(NUMBERS)}"


@pytest.fixture(params=FRONTS)
def front(request):
    return FRONTS[request.param]


def test_an_answer_comes_with_who_said_what(front):
    seen = []
    outcome, prompts = on_agents(lambda pool: front(pool).run("What?", on_part=seen.append), script)

    assert outcome.error is None
    assert outcome.answer
    assert len(outcome.parts) == len(prompts)
    assert list(outcome.parts) == seen
    assert outcome.usage.prompt_tokens == sum(len(prompt.split()) for prompt in prompts)


def test_many_runs_of_one_front_share_nothing(front):
    async def many(pool):
        shared = front(pool)
        tasks = [f"Task number {n}, only mine." for n in range(40)]
        return await asyncio.gather(*(shared.run(task) for task in tasks))

    outcomes, prompts = on_agents(many, script)

    assert all(outcome.ok for outcome in outcomes)
    assert all(prompt.count("Task number") == 1 for prompt in prompts)
    assert len({id(part) for outcome in outcomes for part in outcome.parts}) == sum(len(o.parts) for o in outcomes)
    assert len({len(outcome.parts) for outcome in outcomes}) == 1


def test_nothing_is_spent_beyond_the_purse_and_the_error_says_so(front):
    async def use(pool):
        purse = Purse(Budget(tokens=300))
        outcome = await front(pool).run("What?" * 50, purse=purse)
        return outcome, purse.statistics()

    (outcome, spent), _ = on_agents(use, script)

    assert spent.tokens <= 300
    assert spent.reserved_tokens == spent.agents == 0
    assert outcome.answer == ""
    assert any(isinstance(part.error, errors.BudgetError) for part in outcome.parts)
    assert isinstance(outcome.error, errors.BudgetError | errors.QuorumError)


def test_cancelling_leaves_nothing_under_way(front):
    async def use(pool):
        before = asyncio.all_tasks()
        run = asyncio.create_task(front(pool).run("What?"))
        await asyncio.sleep(5)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return asyncio.all_tasks() - before

    left, prompts = on_agents(use, script, delay_s=100.0)
    assert left == set()
    assert prompts


def test_all_that_is_asked_passes_the_rein(front):
    held = []

    async def rein(call):
        held.append(call)
        return call

    _, prompts = on_agents(lambda pool: front(pool).run("What?", rein=rein), script)
    assert len(held) == len(prompts)


def test_ids_of_thoughts_are_unique(front):
    ids = []

    async def rein(call):
        ids.append(call.agent)
        return call

    on_agents(lambda pool: front(pool).run("What?", rein=rein), script)
    assert all(ids)
    assert len(set(ids)) == len(ids)


def test_agents_may_think_with_different_models():
    async def use(pool):
        tools = ToolPool()
        try:
            mind = Mind(pool, tools)
            front = Hierarchical(LeaderAgent(mind), (WorkerAgent(pool), WorkerAgent(Model("scripted", pool))))
            return await front.run("What?", ["a", "b", "c"])
        finally:
            await tools.aclose()

    outcome, _ = on_agents(use, script)
    assert (outcome.error, outcome.n_ok) == (None, 3)


async def test_a_model_that_cannot_be_opened_is_said_before_anything_is_sent():
    with pytest.raises(errors.UsageError):
        await Competitive((CompetitiveAgent(Model("none", "nowhere.hostfile")),)).run("What?")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Competitive((), lambda response: 1.0),
        lambda: Collaborative(()),
        lambda: DebatingAgents(()),
        lambda: DebatingAgents((DebaterAgent(Model()),), rounds=0),
        lambda: DebatingAgents((DebaterAgent(Model()),), table=0),
        lambda: MixtureOfAgents((), AggregatorAgent(Model())),
        lambda: MixtureOfAgents(((),), AggregatorAgent(Model())),
        lambda: Hierarchical(LeaderAgent(Model()), ()),
    ],
)
def test_nobody_is_refused_when_a_front_is_made(make):
    with pytest.raises(errors.UsageError):
        make()


def test_a_slow_agent_has_a_time_of_its_own():
    async def use(pool):
        agents = (CompetitiveAgent(pool, timeout_s=1.0), CompetitiveAgent(pool))
        return await Competitive(agents, lambda response: 1.0).run("What?")

    outcome, _ = on_agents(use, script, delay_s=5.0)
    assert (outcome.n_ok, outcome.n_failed) == (1, 1)
    assert any(isinstance(part.error, errors.AgentTimeoutError) for part in outcome.parts)


def test_long_answers_are_cut_so_that_they_fit_beside_each_other():
    """Each proposer answers with more words than all prompts may have."""

    def long(prompt):
        return f"first {'word ' * 400} last" if "Which" not in prompt and not among(prompt) else "short"

    async def use(pool):
        layers = ((ProposerAgent(pool, max_tokens=500),) * 4, (ProposerAgent(pool, max_tokens=500),) * 2)
        return await MixtureOfAgents(layers, AggregatorAgent(pool, max_tokens=500)).run("What?")

    outcome, prompts = on_agents(use, long, context=2_000)
    refining = [prompt for prompt in prompts if among(prompt)]
    assert outcome.error is None
    assert all(len(among(prompt)) == 4 for prompt in refining)
    assert all("first" in shown and "last" in shown and "left out" in shown for p in refining for shown in among(p))
