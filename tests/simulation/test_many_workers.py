"""Many workers of one class: nothing is shared but the definition, and nobody's prompt grows with the swarm."""

import asyncio
import json
import re

import pytest

from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.human.desk import Desk
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.models import OpenAI
from aurora_swarm.swarms.work import Assignment
from aurora_swarm.swarms.worker import GIVEN_TOKENS, Worker
from aurora_swarm.testing.fleet import ServerPlan, SimulatedFleet
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.tools.definition import Tool
from aurora_swarm.tools.pool import ToolPool
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint

WORKERS = 1_000
SIZES = (8, 64, 512)
MODEL = OpenAI("m", "http://127.0.0.1:9/v1")
CONTEXT = "We compare furnaces for a foundry in Ghent. " * 20


@Tool.define
async def note(secret: str) -> str:
    """Keep something for this worker alone.

    Args:
        secret: What nobody else may see.
    """
    await asyncio.sleep(1)
    return f"kept {secret}"


def script(call, endpoint):
    """Uses a tool with a secret of the worker's own, asks a person about it, then answers with all that it saw."""
    mine = f"secret-of-{call.agent}"
    match call.turn:
        case 0:
            return json.dumps({"tool": "note", "arguments": {"secret": mine}})
        case 1:
            return json.dumps({"tool": "ask_human", "arguments": {"question": mine, "options": []}})
        case _:
            seen = re.findall(r"secret-of-\w+", " ".join(message.content for message in call.messages))
            return json.dumps({"answer": " ".join(sorted(set(seen)))})


def test_a_thousand_workers_of_one_class_share_nothing():
    async def main():
        transport = ScriptedTransport(script, delay_s=0.5)
        endpoints = [AgentEndpoint(f"node{i}") for i in range(8)]
        async with VLLMPool(endpoints, "m", transport=transport, concurrency=64) as pool:
            tools, desk = ToolPool(), Desk()
            agent = Agent(MODEL, name="scout", instructions="Be brief.", tools=[note])
            workers = [Worker(agent, human=desk) for _ in range(WORKERS)]
            answering = asyncio.ensure_future(answer(desk))
            results = await asyncio.gather(
                *(
                    worker.work(Assignment(task=f"t{i}", title=f"Task {i}", context=CONTEXT), Mind(pool, tools))
                    for i, worker in enumerate(workers)
                )
            )
            answering.cancel()
            await tools.aclose()
        return workers, results, [call for _, call in transport.calls]

    async def answer(desk):
        seen = -1
        while True:
            seen = await desk.changed(seen)
            for each in desk.questions():
                desk.submit(each.question.id, f"about {each.question.text}")

    workers, results, calls = run_virtual(main())
    assert len({worker.id for worker in workers}) == WORKERS
    assert len({id(worker) for worker in workers}) == WORKERS
    # Each saw its own secret and its own task, and no other's.
    assert [result.output for result in results] == [f"secret-of-{worker.id}" for worker in workers]
    tasks = {worker.id: f"Task: Task {i}" for i, worker in enumerate(workers)}
    for call in calls:
        assert re.findall(r"Task: Task \d+", call.messages[1].content) == [tasks[call.agent]]
    assert len(calls) == 3 * WORKERS
    assert all(worker.asking == 0 for worker in workers)


async def sizes_of(workers):
    """Prompt tokens that a simulated fleet counted for each of so many workers, over real sockets."""
    async with SimulatedFleet([ServerPlan(model="m", answer="done") for _ in range(4)]) as fleet:
        agent = Agent(MODEL, name="scout", instructions="Be brief.")
        tools = ToolPool()
        async with VLLMPool(fleet.endpoints, "m", concurrency=64) as pool:
            mind = Mind(pool, tools)
            given = tuple((f"part {i:03}", "word " * 50) for i in range(workers))  # of every other worker's task
            results = await asyncio.gather(
                *(
                    Worker(agent).work(
                        Assignment(task=f"t{i}", title=f"Task {i:03}", context=CONTEXT, given=given[:8]), mind
                    )
                    for i in range(workers)
                ),
                Worker(agent).work(Assignment(task="all", title="Task all", context=CONTEXT, given=given), mind),
            )
        await tools.aclose()
    assert all(result.ok for result in results)
    *each, consolidating = (result.usage.prompt_tokens for result in results)
    return set(each), consolidating


async def test_the_prompt_of_a_worker_is_as_long_in_a_swarm_of_512_as_in_one_of_8():
    measured = {size: await sizes_of(size) for size in SIZES}
    assert len(set.union(*(each for each, _ in measured.values()))) == 1
    # Who builds on all the others' results is held to its budget too.
    (one,) = measured[8][0]
    assert max(consolidating for _, consolidating in measured.values()) <= one + GIVEN_TOKENS


@pytest.mark.parametrize("size", SIZES)
def test_what_workers_share_is_the_same_to_the_byte(size):
    async def main():
        transport = ScriptedTransport(lambda call, endpoint: "done")
        async with VLLMPool([AgentEndpoint("a")], "m", transport=transport) as pool:
            tools = ToolPool()
            agent = Agent(MODEL, name="scout", instructions="Be brief.")
            mind = Mind(pool, tools)
            await asyncio.gather(
                *(
                    Worker(agent).work(Assignment(task=str(i), title=f"Task {i}", context=CONTEXT), mind)
                    for i in range(size)
                )
            )
            await tools.aclose()
        return [call for _, call in transport.calls]

    calls = run_virtual(main())
    assert len({call.prefix for call in calls}) == 1
    assert calls[0].prefix
    assert {call.messages[1].content.partition("Task: ")[0] for call in calls} == {
        calls[0].messages[1].content.partition("Task: ")[0]
    }
