"""What holds however a person is asked: on a console, on a web page, through a function, or at the desk itself.

Each way is given the answers as its person would give them: typed on a real terminal, posted to a real server, returned
by a function.
"""

import asyncio
import os
import pty
import tty
from contextlib import asynccontextmanager

import pytest

from aurora_swarm.errors import CallbackError, UnansweredError, UsageError
from aurora_swarm.swarms.human.callback import CallbackHuman
from aurora_swarm.swarms.human.console import ConsoleHuman
from aurora_swarm.swarms.human.desk import Desk
from aurora_swarm.swarms.human.web import WebForm


async def until(condition):
    """Wait for something that nobody tells of; five seconds at most."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come about")


class AtTheDesk:
    """Answers by `Desk.submit`; tells what was said to the person."""

    def __init__(self, human, desk):
        self.human, self.desk = human, desk

    async def answer(self, given, *, name="q"):
        return self.desk.submit(name, given).text

    async def is_asked(self, name="q"):
        await until(lambda: any(each.question.id == name for each in self.desk.questions()))


@asynccontextmanager
async def desk():
    desk = Desk()
    yield AtTheDesk(desk, desk)


@asynccontextmanager
async def callback():
    """A coroutine function that gets its answers from the test; late ones come by another way."""
    answers = asyncio.Queue()

    async def ask(question):
        if question.problem:
            problems.put_nowait(question.problem)
        return await answers.get()

    problems = asyncio.Queue()
    human = CallbackHuman(ask, max_tries=3)

    class Person(AtTheDesk):
        async def answer(self, given, *, name="q"):
            if all(each.question.id != name for each in self.desk.questions()):
                return self.desk.submit(name, given).text
            answers.put_nowait(given)
            version = self.desk.version
            again = asyncio.ensure_future(problems.get())
            closed = asyncio.ensure_future(self.desk.changed(version))
            done, rest = await asyncio.wait({again, closed}, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            return again.result() if again in done else "Thank you."

    yield Person(human, human.desk)


@asynccontextmanager
async def console():
    """A person at a real terminal: a pty, with its line discipline."""
    person, program = pty.openpty()
    tty.setcbreak(person)
    shown = []
    human = ConsoleHuman(descriptor=program, write=shown.append)

    class Person(AtTheDesk):
        async def is_asked(self, name="q"):
            await super().is_asked(name)
            # The terminal shows one question at a time.
            await until(lambda: any(self._text(name) in text for text in shown))

        def _text(self, name):
            return next(each.question.text for each in self.desk.questions() if each.question.id == name)

        async def answer(self, given, *, name="q"):
            before = len(shown)
            os.write(person, given.encode() + b"\n")
            if any(each.question.id == name for each in self.desk.questions()):
                await until(lambda: len(shown) > before)
                return shown[before]
            # Nobody listens: what was typed is told of with the next question.
            asking = asyncio.ensure_future(self.human.ask(self.next))
            await until(lambda: any(self.next.text in text for text in shown[before:]))
            asking.cancel()
            await asyncio.wait({asking})
            return next(text for text in shown[before:] if text.startswith("Not used"))

    person_at_it = Person(human, human.desk)
    try:
        yield person_at_it
    finally:
        os.close(person)
        os.close(program)


@asynccontextmanager
async def web():
    """A browser without JavaScript, as far as that can be had without a browser; Chromium has tests of its own."""
    import urllib.error
    import urllib.parse
    import urllib.request

    async with WebForm() as form:
        origin, token = form.url.split("/?token=")
        cookie = f"aurora_swarm_{origin.rpartition(':')[2]}={token}"

        def post(name, given):
            body = urllib.parse.urlencode({"id": name, "answer": given}).encode()
            headers = {"Origin": origin, "Cookie": cookie, "Accept": "application/json"}
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{origin}/answer", body, headers)) as reply:
                    return reply.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.read().decode()

        class Person(AtTheDesk):
            async def answer(self, given, *, name="q"):
                return await asyncio.to_thread(post, name, given)

        yield Person(form, form.desk)


@pytest.fixture(params=[desk, callback, console, web], ids=lambda way: way.__name__)
async def person(request, question):
    async with request.param() as person:
        person.next = question("The next one", id="next", deadline_s=5)
        yield person


async def test_a_valid_answer_is_what_the_worker_gets(person, question):
    asking = asyncio.ensure_future(person.human.ask(question("How many?", kind="number")))
    await person.is_asked()
    assert "Thank you." in await person.answer("12")
    assert await asking == 12


async def test_an_invalid_answer_is_told_and_asked_for_again(person, question):
    asking = asyncio.ensure_future(person.human.ask(question("How many?", kind="number")))
    await person.is_asked()
    assert "This is no number" in await person.answer("many")
    assert not asking.done()
    await person.answer("3")
    assert await asking == 3


async def test_a_late_answer_is_refused_and_the_default_was_taken(person, question):
    assert await person.human.ask(question(default="as you like", deadline_s=0.05)) == "as you like"
    assert "The time for this question is over; scout went on with: as you like" in await person.answer("because")


async def test_without_a_default_nobody_answering_is_an_error_that_names_the_question(person, question):
    with pytest.raises(UnansweredError, match=r"nobody answered within 1 s: Why\?"):
        await person.human.ask(question(deadline_s=0.05))
    assert "had to do without" in await person.answer("because")


async def test_a_second_answer_is_refused(person, question):
    asking = asyncio.ensure_future(person.human.ask(question()))
    await person.is_asked()
    await person.answer("first")
    assert await asking == "first"
    assert "already answered" in await person.answer("second")


async def test_a_cancelled_question_is_gone(person, question):
    asking = asyncio.ensure_future(person.human.ask(question()))
    await person.is_asked()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert person.desk.questions() == []
    assert "scout no longer needs an answer" in await person.answer("because")


async def test_many_workers_ask_at_once_and_each_gets_its_own_answer(person, question):
    numbers = range(5)
    asking = [asyncio.ensure_future(person.human.ask(question(f"Number {i}?", id=f"q{i}"))) for i in numbers]
    for i in numbers:
        await person.is_asked(f"q{i}")
        await person.answer(f"answer {i}", name=f"q{i}")
        if isinstance(person.human, CallbackHuman):  # which of the calls gets an answer is the queue's business
            await asyncio.sleep(0)
    assert sorted(await asyncio.gather(*asking)) == [f"answer {i}" for i in numbers]
    if not isinstance(person.human, CallbackHuman):
        assert await asyncio.gather(*asking) == [f"answer {i}" for i in numbers]


async def test_a_check_that_raises_ends_the_question_not_the_person(person, question):
    def check(answer):
        raise RuntimeError("broken")

    asking = asyncio.ensure_future(person.human.ask(question(validate=check, default="x")))
    await person.is_asked()
    await person.answer("anything")
    with pytest.raises(CallbackError, match=r"the check of an answer raised RuntimeError: broken"):
        await asking


async def test_two_open_questions_may_not_have_one_id(person, question):
    asking = asyncio.ensure_future(person.human.ask(question()))
    await person.is_asked()
    with pytest.raises(UsageError, match="open already"):
        await person.human.ask(question())
    asking.cancel()
    await asyncio.wait({asking})


async def test_nothing_of_a_question_is_left_behind(person, question):
    before = asyncio.all_tasks()
    asking = asyncio.ensure_future(person.human.ask(question()))
    await person.is_asked()
    await person.answer("because")
    await asking
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()
