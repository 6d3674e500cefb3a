"""Agents that pay out of a purse, and wait where only others under way stand in the way."""

import asyncio

import pytest

from aurora_swarm import Tool, errors
from aurora_swarm.agents.budgets import Purse
from aurora_swarm.agents.driver import Task, ToolReport, run_agent
from aurora_swarm.agents.native import NativeTools
from aurora_swarm.agents.paying import reserved
from aurora_swarm.agents.structured import OutputSpec
from aurora_swarm.agents.turns import Rules
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.values.budget import Budget
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.reply import Reply, Usage

TEXT = OutputSpec(None)


@Tool.define(effect="pure")
def look(place: str) -> str:
    """Look somewhere."""
    return place


def purse(parent=None, **budget):
    return Purse(Budget(**budget), None, parent, prompt_tokens=lambda call: len(call.messages[0].content))


def call(prompt=100, max_tokens=100):
    return Call((Message("user", "x" * prompt),), sampling=Sampling(max_tokens=max_tokens))


def task(index=0, **changes):
    rules = Rules(output=TEXT, protocol=NativeTools([look], TEXT))
    return Task(
        index=index, key=str(index), messages=(Message("user", "x" * 100),), rules=rules,
        sampling=Sampling(max_tokens=100), **changes,
    )  # fmt: skip


async def answers(call):
    await asyncio.sleep(1)
    return Outcome(Reply("a stone", usage=Usage(90, 10)), None, None)


async def uses(call, again):
    await asyncio.sleep(1)
    return ToolReport("x", True)


def calling(*places):
    calls = tuple(ToolCall(f"c{place}", "look", {"place": place}) for place in places)
    return Outcome(Reply("", tool_calls=calls, usage=Usage(90, 10)), None, None)


def test_who_would_fit_later_waits_and_is_neither_refused_nor_cut_short():
    held = purse(tokens=500)
    asked = []

    async def ask(call):
        asked.append((asyncio.get_running_loop().time(), call.sampling.max_tokens))
        return await answers(call)

    async def main():
        return await asyncio.gather(*(run_agent(task(n), ask, uses, purse=held) for n in range(4)))

    results = run_virtual(main())
    assert [result.ok for result in results] == [True] * 4
    # Two fit at a time; the last one has what is left.
    assert asked == [(0.0, 100), (0.0, 100), (1.0, 100), (2.0, 100)]
    assert held.statistics().tokens == 400


def test_who_fits_in_no_case_is_refused_at_once():
    held = purse(tokens=300)
    held.reserve(call(), 0.0)

    async def main():
        with pytest.raises(errors.BudgetError):
            await reserved(held, call(prompt=290))
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 0.0


def test_who_waits_first_is_served_first_also_before_smaller_calls():
    held = purse(tokens=400)
    served = []

    async def one(name, wanted):
        _, hold = await reserved(held, wanted)
        served.append(name)
        await asyncio.sleep(1)
        held.settle(hold, Outcome(Reply("", usage=Usage(1, 0)), None, None))

    async def main():
        async with asyncio.TaskGroup() as group:
            for name, size in (("first", 200), ("large", 250), ("small", 10), ("tiny", 1)):
                group.create_task(one(name, call(size)))
                await asyncio.sleep(0)

    run_virtual(main())
    assert served == ["first", "large", "small", "tiny"]


@pytest.mark.parametrize("when", [0.5, 1.0])
def test_who_is_cancelled_while_waiting_keeps_nobody_from_their_turn(when):
    held = purse(tokens=210)

    async def one():
        _, hold = await reserved(held, call())
        await asyncio.sleep(1)
        held.settle(hold, Outcome(Reply("", usage=Usage(1, 0)), None, None))

    async def main():
        tasks = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(when)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert [each.cancelled() for each in tasks] == [False, True, False]
        assert not held.waiting

    run_virtual(main())
    assert held.statistics().reserved_tokens == 0


def test_an_agent_that_cannot_pay_says_so_and_what_it_spent():
    held = purse(tokens=250)

    async def ask(call):
        return calling("x")

    result = run_virtual(run_agent(task(), ask, uses, purse=held))
    assert isinstance(result.error, errors.BudgetError)
    assert (result.error.bound, result.usage.total_tokens, result.turns) == ("tokens", 100, 1)
    assert held.statistics().agents == 0


def test_tool_calls_are_paid_for_and_shared_ones_are_not():
    held = purse(tool_calls=2)

    async def ask(call):
        return calling("x", "y") if call.turn < 2 else await answers(call)

    async def shared(call, again):
        return ToolReport("x", executed=call.arguments["place"] == "x" and len(call.id) == 2)

    result = run_virtual(run_agent(task(), ask, shared, purse=held))
    assert isinstance(result.error, errors.BudgetError)
    assert result.error.bound == "tool_calls"
    assert (held.statistics().tool_calls, result.tools_executed) == (1, 1)


async def test_a_cancelled_agent_has_paid_what_was_reserved():
    held = purse(tokens=1000)

    async def never(call):
        await asyncio.Event().wait()

    agent = asyncio.create_task(run_agent(task(), never, uses, purse=held))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert held.statistics().reserved_tokens == 200
    agent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await agent
    has = held.statistics()
    assert (has.tokens, has.reserved_tokens, has.agents) == (200, 0, 0)


def test_an_agent_ends_when_the_time_of_its_purse_is_over():
    held = purse(purse(wall_s=3.0))

    async def ask(call):
        await asyncio.sleep(1)
        return calling("x")

    result = run_virtual(run_agent(task(timeout_s=100.0), ask, uses, purse=held))
    assert isinstance(result.error, errors.BudgetError)
    assert (result.error.bound, result.latency_s) == ("wall_s", pytest.approx(3.0))


def test_an_agent_beyond_the_width_is_not_begun():
    held = purse(width=1)

    async def main():
        return await asyncio.gather(*(run_agent(task(n), answers, uses, purse=held) for n in range(2)))

    first, second = run_virtual(main())
    assert first.ok
    assert isinstance(second.error, errors.BudgetError)
    assert (second.error.bound, second.attempts) == ("width", 0)


def test_a_recording_is_not_paid_for_again():
    held = purse(tokens=1000)
    recorded = [calling("x").reply, [ToolReport("a stone", executed=True)]]
    result = run_virtual(run_agent(task(), answers, uses, purse=held, recorded=recorded))
    assert result.ok
    assert (result.usage.total_tokens, held.statistics().tokens) == (200, 100)
