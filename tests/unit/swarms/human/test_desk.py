"""Where questions wait."""

import asyncio

import pytest

from aurora_swarm.errors import UnansweredError
from aurora_swarm.swarms.human.desk import REMEMBERED, Desk
from aurora_swarm.testing.virtual_time import run_virtual


async def asked(desk, question):
    asking = asyncio.ensure_future(desk.ask(question))
    await asyncio.sleep(0)
    return asking


async def test_an_answer_in_the_moment_of_a_cancellation_is_not_called_accepted(question):
    desk = Desk()
    asking = await asked(desk, question())
    asking.cancel()
    assert desk.submit("q", "because").state == "withdrawn"
    with pytest.raises(asyncio.CancelledError):
        await asking


def test_an_answer_in_the_moment_of_the_deadline_is_taken_if_it_was_accepted(question):
    async def main():
        desk = Desk()
        loop = asyncio.get_running_loop()
        receipts = []
        loop.call_at(5.0, lambda: receipts.append(desk.submit("q", "just in time")))
        asking = asyncio.ensure_future(desk.ask(question(deadline_s=5.0, default="too late")))
        loop.call_at(5.0, lambda: receipts.append(desk.submit("q", "after all")))
        answer = await asking
        return answer, receipts

    answer, (first, second) = run_virtual(main())
    assert (answer == "just in time") == first.ok
    assert not second.ok


def test_the_deadline_runs_on_the_loops_clock(question):
    async def main():
        desk = Desk()
        asking = await asked(desk, question(deadline_s=86_400.0, default=0.0))
        await asyncio.sleep(86_399)
        (waiting,) = desk.questions()
        return waiting.left_s, await asking, asyncio.get_running_loop().time()

    assert run_virtual(main()) == (1.0, 0.0, 86_400.0)


async def test_questions_are_listed_in_the_order_of_asking_and_closed_ones_backwards(question):
    desk = Desk()
    asking = [await asked(desk, question(id=name)) for name in "abc"]
    assert [each.question.id for each in desk.questions()] == ["a", "b", "c"]
    for name in "cab":
        desk.submit(name, f"answer {name}")
    assert [(each.question.id, each.answer) for each in desk.closed(2)] == [("b", "answer b"), ("a", "answer a")]
    await asyncio.gather(*asking)


async def test_who_watches_is_woken_by_every_coming_and_going(question):
    desk = Desk()
    seen = desk.version
    watching = asyncio.ensure_future(desk.changed(seen))
    asking = await asked(desk, question())
    seen = await watching
    watching = asyncio.ensure_future(desk.changed(seen))
    desk.submit("q", "x")
    assert await watching > seen
    await asking


async def test_what_is_remembered_of_closed_questions_is_bounded(question):
    desk = Desk()
    for number in range(REMEMBERED + 5):
        asking = await asked(desk, question(id=str(number)))
        desk.submit(str(number), "x")
        await asking
    assert desk.receipt("4").state == "unknown"
    assert desk.receipt("5").state == "answered"


async def test_a_desk_that_is_shut_leaves_nobody_waiting(question):
    desk = Desk()
    without, having = await asked(desk, question(id="a")), await asked(desk, question(id="b", default=False))
    desk.shut()
    with pytest.raises(UnansweredError, match="nobody can answer any more"):
        await without
    assert await having is False
    with pytest.raises(UnansweredError):
        await desk.ask(question(id="c"))


async def test_an_unknown_question_is_told_as_such():
    assert Desk().submit("nobody asked", "x").state == "unknown"


async def test_zero_and_no_are_defaults_like_any_other(question):
    desk = Desk()
    assert await desk.ask(question(kind="number", default=0.0, deadline_s=0.01)) == 0.0
    assert desk.submit("q", "1").text.endswith("went on with: 0")
