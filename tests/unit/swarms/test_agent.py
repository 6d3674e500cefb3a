"""An agent: a definition that nothing changes."""

import asyncio
import copy

import pytest
from pydantic import BaseModel

from aurora_swarm import Tool
from aurora_swarm.errors import NothingListensError, SchemaError, ToolDefinitionError, UsageError
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.models import Model, OpenAI
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint

NOWHERE = OpenAI("m", "http://127.0.0.1:9/v1")


class Fact(BaseModel):
    metal: str


@pytest.fixture
async def pool():
    transport = ScriptedTransport(lambda call, endpoint: '{"metal": "tin"}' if call.schema else "done")
    async with VLLMPool([AgentEndpoint("a")], "m", transport=transport) as pool:
        pool.asked = transport.calls
        yield pool


def test_it_cannot_be_changed():
    agent = Agent(NOWHERE, name="reader", tools=[len_of], skills=["reading"])
    for field, value in {"name": "x", "tools": (), "id": "1", "model": NOWHERE, "memory": None}.items():
        with pytest.raises(AttributeError):
            setattr(agent, field, value)
    assert isinstance(agent.tools, tuple)
    assert isinstance(agent.skills, tuple)


def len_of(text: str) -> int:
    """Characters of a text."""
    return len(text)


def test_each_has_an_id_of_its_own_in_the_order_of_making():
    agents = [Agent(NOWHERE, name="same", instructions="same") for _ in range(1_000)]
    ids = [agent.id for agent in agents]
    assert len(set(ids)) == 1_000
    assert sorted(ids) == ids
    assert Agent(NOWHERE, name="x", id="mine").id == "mine"
    assert len(set(agents)) == 1_000  # equal definitions are two agents
    assert copy.copy(agents[0]).id == agents[0].id


@pytest.mark.parametrize(
    ("wrong", "error", "problem"),
    [
        ({"tools": [len_of, Tool.define(name="len_of")(len_of)]}, UsageError, "two tools are called len_of"),
        ({"tools": [Tool.define(name="recall")(len_of)], "memory": "memory://"}, UsageError, "called recall"),
        ({"tools": [7]}, ToolDefinitionError, "7 is no tool"),
        ({"max_turns": 0}, UsageError, "max_turns is 0"),
        ({"max_retries": -1}, UsageError, "max_retries is -1"),
    ],
)
def test_what_cannot_work_is_refused_at_once(wrong, error, problem):
    with pytest.raises(error, match=problem):
        Agent(NOWHERE, name="reader", **wrong)


async def test_it_does_a_task(pool):
    agent = Agent(Model(backend=pool), name="reader", instructions="Be brief.", skills=("maps", "routes"))
    result = await agent.run("Where is {Ghent}?")
    assert (result.ok, result.output, result.key) == (True, "done", agent.id)
    (call,) = [call for _, call in pool.asked]
    assert [m.content for m in call.messages] == ["Be brief.\n\nYou are good at: maps, routes.", "Where is {Ghent}?"]


async def test_a_task_may_say_what_its_answer_is(pool):
    agent = Agent(Model(backend=pool), name="reader", output_schema=Fact)
    assert (await agent.run("Which?")).output == Fact(metal="tin")
    schema = {"type": "object", "properties": {"metal": {"type": "string"}}}
    assert (await agent.run("Which?", schema=schema)).output == {"metal": "tin"}


async def test_an_open_mind_is_used_as_it_is(pool):
    async with Model(backend=pool).opened() as mind:
        assert (await Agent(NOWHERE, name="reader").run("?", mind=mind)).ok
        with pytest.raises(SchemaError):
            await Agent(NOWHERE, name="reader").run("?", mind=mind, schema={"type": "array"})


async def test_a_model_that_cannot_be_opened_is_raised():
    with pytest.raises(NothingListensError):
        await Agent(NOWHERE, name="reader").run("?")


async def test_one_agent_runs_many_tasks_at_once_and_none_knows_of_another(pool):
    agent = Agent(Model(backend=pool), name="reader", instructions="Be brief.")
    before = {field: getattr(agent, field) for field in agent.__struct_fields__}
    results = await asyncio.gather(*(agent.run(f"task {i}") for i in range(100)))
    assert all(result.ok for result in results)
    assert sorted(call.messages[1].content for _, call in pool.asked) == sorted(f"task {i}" for i in range(100))
    assert {len(call.messages) for _, call in pool.asked} == {2}
    assert {field: getattr(agent, field) for field in agent.__struct_fields__} == before


async def test_what_is_shared_is_named_for_placement_where_it_is_worth_it(pool):
    async with Model(backend=pool).opened() as mind:
        for instructions, shared in (("short", ""), ("long " * 200, "x"), ("long " * 200, "x"), ("long " * 200, "y")):
            await Agent(NOWHERE, name="a", instructions=instructions).perform("?", mind, shared=shared)
    prefixes = [call.prefix for _, call in pool.asked]
    assert prefixes[0] == ""
    assert prefixes[1] == prefixes[2] != prefixes[3]
