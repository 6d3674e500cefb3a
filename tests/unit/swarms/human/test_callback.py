"""Functions that answer."""

import asyncio
import threading
import time

import pytest

from aurora_swarm.errors import CallbackError, UnansweredError
from aurora_swarm.swarms.human.callback import CallbackHuman


async def test_a_plain_function_runs_on_a_thread(question):
    def answer(asked):
        threads.append(threading.current_thread())
        return f"about {asked.text}"

    threads = []
    assert await CallbackHuman(answer).ask(question("this")) == "about this"
    assert threads != [threading.main_thread()]


async def test_a_plain_function_that_hangs_holds_up_nothing(question):
    free = threading.Event()
    began = time.monotonic()
    human = CallbackHuman(lambda asked: free.wait(30) and "late")
    assert await human.ask(question(deadline_s=0.1, default="in time")) == "in time"
    assert time.monotonic() - began < 5
    free.set()


async def test_an_invalid_answer_is_asked_for_again_with_what_was_wrong(question):
    heard = []

    async def answer(asked):
        heard.append(asked.problem)
        return "many" if len(heard) == 1 else 4

    assert await CallbackHuman(answer).ask(question(kind="number")) == 4
    assert heard == ["", "This is no number. Answer with a number, for example 12 or 0.5."]


async def test_not_for_ever(question):
    calls = []
    human = CallbackHuman(lambda asked: calls.append(asked) or "many", max_tries=2)
    with pytest.raises(UnansweredError, match="no valid answer came in 2 calls"):
        await human.ask(question(kind="number"))
    assert len(calls) == 2
    assert await human.ask(question(kind="number", default=7)) == 7


async def test_what_a_function_raises_is_named(question):
    def answer(asked):
        raise KeyError("chat")

    with pytest.raises(CallbackError, match="the callback raised KeyError: 'chat'"):
        await CallbackHuman(answer).ask(question(default="not this"))


async def test_none_means_that_the_answer_comes_by_another_way(question, until):
    posted = []
    human = CallbackHuman(lambda asked: posted.append(asked.id))
    asking = asyncio.ensure_future(human.ask(question()))
    await until(lambda: posted)
    await asyncio.sleep(0.01)
    assert human.desk.submit("q", "from the chat").ok
    assert await asking == "from the chat"


async def test_a_function_may_return_something_to_be_awaited(question):
    async def later(text):
        return text

    assert await CallbackHuman(lambda asked: later(asked.text)).ask(question("later")) == "later"


async def test_a_coroutine_is_cancelled_with_its_question(question):
    ended = []

    async def answer(asked):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(asked.id)

    assert await CallbackHuman(answer).ask(question(deadline_s=0.05, default="x")) == "x"
    assert ended == ["q"]
