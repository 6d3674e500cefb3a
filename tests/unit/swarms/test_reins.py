"""How work under way is held up, and told something."""

import asyncio

import pytest

from aurora_swarm import Budget
from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import BudgetError, TaskCancelledError
from aurora_swarm.swarms.reins import Gate, TaskRein
from aurora_swarm.values.call import Call
from aurora_swarm.values.message import Message, ToolCall

START = (Message("system", "You work."), Message("user", "Do it."))


def rein_of(*said, gates=(), purse=None):
    return TaskRein(gates, said, lambda: None, purse)


def contents(call):
    return [message.content for message in call.messages]


async def test_a_call_is_unchanged_while_nothing_was_said():
    call = Call(START)
    assert await rein_of([])(call) is call


async def test_several_things_keep_their_places_whoever_said_them():
    run, own = [], []
    rein = rein_of(run, own)
    own.append("one")
    await rein(Call(START))
    longer = (*START, Message("assistant", "a"), Message("user", "b"))
    run.append("two")
    own.append("three")
    await rein(Call(longer))
    longest = (*longer, Message("assistant", "c"))
    told = await rein(Call(longest))
    assert contents(told) == ["You work.", "Do it.", "one", "a", "b", "two", "three", "c"]


async def test_what_was_said_before_the_first_call_stays_before_the_first_answer():
    rein = rein_of(["now"])
    begun = (Message("user", "Do it."),)
    asked = Message("assistant", "", tool_calls=(ToolCall("1", "f", {"a": [1]}),))
    assert contents(await rein(Call(begun))) == ["Do it.", "now"]
    longer = (*begun, asked, Message("tool", "y", tool_call_id="1"))
    assert contents(await rein(Call(longer))) == ["Do it.", "now", "", "y"]


async def test_a_call_of_a_tool_is_not_parted_from_its_answer():
    said = ["now"]
    rein = rein_of(said)
    asked = Message("assistant", "", tool_calls=(ToolCall("1", "f", {}),))
    await rein(Call((*START, Message("assistant", "x"))))
    shortened = (*START, asked, Message("tool", "y", tool_call_id="1"), Message("assistant", "z"))
    assert contents(await rein(Call(shortened))) == ["You work.", "Do it.", "", "y", "now", "z"]


async def test_a_conversation_that_became_shorter_has_it_at_its_end():
    rein = rein_of(["now"])
    await rein(Call((*START, Message("assistant", "x"), Message("user", "y"))))
    assert contents(await rein(Call(START))) == ["You work.", "Do it.", "now"]


async def test_two_conversations_of_one_task_are_told_each_for_itself():
    rein = rein_of(["now"])
    await rein(Call((*START, Message("assistant", "x"), Message("user", "y"))))
    other = (START[0], Message("user", "Check it."))
    assert contents(await rein(Call(other))) == ["You work.", "Check it.", "now"]


async def test_all_gates_must_be_open():
    gates = Gate(), Gate()
    passing = asyncio.ensure_future(rein_of([], gates=gates)(Call(START)))
    await passing
    for gate in gates:
        gate.shut()
        gate.shut()
    passing = asyncio.ensure_future(rein_of([], gates=gates)(Call(START)))
    for gate in gates:
        await asyncio.sleep(0)
        assert not passing.done()
        gate.open()
        gate.open()
    await passing


async def test_who_lost_its_task_makes_no_call_even_if_it_waited_for_one():
    gate = Gate()
    gate.shut()
    rein = rein_of([], gates=[gate])
    passing = asyncio.ensure_future(rein(Call(START)))
    await asyncio.sleep(0)
    rein.is_ended = True
    gate.open()
    with pytest.raises(TaskCancelledError):
        await passing


async def test_what_cannot_be_paid_is_not_said():
    with pytest.raises(BudgetError):
        await rein_of(["x" * 500], purse=Purse(Budget(tokens=100)))(Call(START))
