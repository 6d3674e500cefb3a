"""The contract's society snippets, on the real model: whatever it plans, the objective ends in an answer.

The embedded model plans badly and finds further tasks for everything, so the snippet as it stands takes minutes with
it: that one is run with the chaos tests, a bounded one every time.
"""

import pytest

from aurora_swarm import Hivemind, OpenAI, Orchestrator, Swarm
from aurora_swarm.gateway.a2a_server import serve_swarm
from aurora_swarm.swarms.work import TaskState

pytestmark = pytest.mark.local_model


def check(outcome, most):
    assert outcome.error is None
    assert outcome.answer.strip()
    assert 1 <= len(outcome.tasks) <= most
    assert outcome.n_ok >= 1
    assert all(task.text.strip() for task in outcome.tasks if task.state is TaskState.DONE)
    assert outcome.usage.completion_tokens > 0


async def test_an_objective_ends_in_an_answer_on_the_embedded_model():
    orchestrator = Orchestrator(OpenAI(base_url="local://", max_tokens=24, temperature=0), nodes=4)
    swarm = Swarm(orchestrator, auto=True, objective="Describe a bee and a wasp.", max_tasks=2, max_depth=1)
    outcome = await swarm.run()
    check(outcome, 2)


@pytest.mark.chaos
@pytest.mark.timeout(1_500)
async def test_the_society_of_the_contract_as_it_stands(monkeypatch):
    monkeypatch.setenv("AURORA_SWARM_MAX_TOKENS", "64")

    orchestrator = Orchestrator(OpenAI(model="", base_url="local://"), nodes=40)
    swarm = Swarm(orchestrator, auto=True, objective="Make a business website for a marketing consultancy")
    outcome = await swarm.run()
    check(outcome, 32)


@pytest.mark.chaos
@pytest.mark.timeout(1_500)
async def test_the_hivemind_of_the_contract_as_it_stands():
    model = OpenAI(base_url="local://", max_tokens=48, temperature=0)

    def swarm(name):
        return Swarm(Orchestrator(model, nodes=2), name=name, about=f"{name} texts", max_tasks=2, max_depth=0)

    research_swarm, writing_swarm = swarm("research"), swarm("writing")
    async with serve_swarm(swarm("elsewhere")) as served:
        hive = Hivemind([research_swarm, writing_swarm, served.url])
        outcome = await hive.run("Survey KV-cache reuse for multi-agent inference")
    check(outcome, 12)
    assert outcome.members
