"""A hivemind of three swarms, one of them in another process that is killed half-way."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import MemberLostError
from aurora_swarm.local.open import configure
from aurora_swarm.local.server import LocalServer
from aurora_swarm.swarms.hivemind import Hivemind
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.swarms.orchestrator import Orchestrator
from aurora_swarm.swarms.swarm import Swarm
from aurora_swarm.swarms.work import TaskSpec
from aurora_swarm.testing import answers
from aurora_swarm.testing.faulty_server import OK, Answer, FaultyServer
from aurora_swarm.values.budget import Budget

CHILD = Path(__file__).parent / "hive_member_example.py"
BUDGET = 120_000


@asynccontextmanager
async def far_swarm(base_url, max_tokens):
    """The process that serves the third swarm; gives its address, and itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), base_url, str(max_tokens), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield (await line_of(process)), process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line_of(process):
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def killed_after(process, event):
    while await line_of(process) != event:
        pass
    os.kill(process.pid, signal.SIGKILL)


async def pursue(base_url, max_tokens, event, objectives):
    """Three swarms on three macro-tasks; the far one is killed when that has happened in it."""
    model = OpenAI(base_url=base_url, max_tokens=max_tokens)
    near = [Swarm(Orchestrator(model, nodes=1), auto=False, max_tasks=1, name=name) for name in ("one", "two")]
    purse = Purse(Budget(tokens=BUDGET))
    async with far_swarm(base_url, max_tokens) as (url, process):
        far = url.removeprefix("a2a://")
        tasks = [
            TaskSpec(title=title, instructions=objective, id=title, skills=(name,))
            for (title, objective), name in zip(objectives.items(), ("one", "two", far), strict=True)
        ]
        kill = asyncio.create_task(killed_after(process, event))
        outcome = await Hivemind([*near, url]).run("Report on all of it.", tasks=tasks, purse=purse)
        await kill
        assert process.returncode == -signal.SIGKILL or await process.wait() == -signal.SIGKILL
    check(outcome, purse, far)
    return outcome


def check(outcome, purse, far):
    """It is answered, the loss is told, and what the lost one was granted counts."""
    assert outcome.ok
    assert outcome.n_ok == 3
    assert isinstance(outcome.members[far].error, MemberLostError)
    assert any(note.startswith(f"The swarm '{far}' was lost") for note in outcome.notes)
    taken_over = outcome.tasks[2]
    assert (taken_over.attempts, taken_over.worker in ("one", "two")) == (2, True)
    has = purse.statistics()
    assert has.tokens <= BUDGET
    assert (has.reserved_tokens, has.agents) == (0, 0)
    assert has.tokens > outcome.usage.total_tokens + 10_000  # the grant of the lost one


def scripted(request):
    """Plans when it must keep to a schema; the far swarm's second task is never answered."""
    if request.method != "POST":
        return OK
    asked = request.json()
    prompt = asked["messages"][-1]["content"]
    if asked.get("response_format"):
        tasks = [{"title": f"part {n}", "instructions": f"count {n}", "after": []} for n in (1, 2, 3)]
        return Answer(json.dumps(answers.chat(json.dumps({"tasks": tasks}))).encode())
    if "count 2" in prompt or "count 3" in prompt:
        return Answer(end="hang", cut_at=0)
    return Answer(json.dumps(answers.chat("found")).encode())


async def test_the_far_one_is_killed_between_two_of_its_tasks_and_the_rest_is_answered():
    async with FaultyServer(scripted) as server:
        objectives = {"Bees": "name bees", "Wasps": "name wasps", "Ants": "name ants"}
        outcome = await pursue(f"{server.endpoint.url}/v1", 64, "TaskEnded", objectives)
    assert outcome.answer == "found"


@pytest.mark.chaos
@pytest.mark.local_model
async def test_the_same_on_the_embedded_model():
    pytest.importorskip("xllamacpp")
    config = await configure(None, None, str, slots=3, context=3 * 2048)
    text = "A bee flies at 25 km/h. A wasp flies at 30 km/h. An ant walks at 1 km/h."
    objectives = {
        name: f"{text} How fast is a {name}? Answer in one short sentence." for name in ("bee", "wasp", "ant")
    }
    async with LocalServer(config) as server:
        outcome = await pursue(f"{server.endpoint.url}/v1", 24, "SwarmBegan", objectives)
    assert outcome.answer
