"""The console, where it is not a person at a terminal, or one who does something odd."""

import asyncio
import os
import pty
import time

import pytest

from aurora_swarm.errors import UnansweredError, UsageError
from aurora_swarm.swarms.human.console import ConsoleHuman


@pytest.fixture
def piped():
    """A console that reads a pipe; gives it, where to write, and what it shows."""
    read, write = os.pipe()
    shown = []
    ends = [read, write]
    yield ConsoleHuman(descriptor=read, write=shown.append), ends, shown
    for end in ends:
        os.close(end)


async def test_lines_of_a_pipe_are_answers_in_their_order(piped, question):
    human, (_, write), _ = piped
    os.write(write, b"first\nsecond\r\n")
    assert await human.ask(question(id="a")) == "first"
    assert await human.ask(question(id="b")) == "second"


async def test_at_the_end_of_the_input_defaults_are_taken_at_once(piped, question):
    human, ends, _ = piped
    os.write(ends[1], b"last, without a line break")
    os.close(ends.pop())
    assert await human.ask(question(id="a", deadline_s=900)) == "last, without a line break"
    assert await human.ask(question(id="b", deadline_s=900, default="none")) == "none"
    with pytest.raises(UnansweredError, match="the input has ended"):
        await human.ask(question(id="c", deadline_s=900))


async def test_a_file_may_be_standard_input(tmp_path, question):
    (tmp_path / "answers.txt").write_text("from a file\n")
    with (tmp_path / "answers.txt").open() as file:
        human = ConsoleHuman(descriptor=file.fileno(), write=lambda text: None)
        assert await human.ask(question(id="a")) == "from a file"
        assert await human.ask(question(id="b", default="ended")) == "ended"


async def test_the_loop_goes_on_while_a_person_thinks(piped, question):
    human, (_, write), _ = piped
    asking = asyncio.ensure_future(human.ask(question()))
    ticks, began = 0, time.monotonic()
    while time.monotonic() - began < 0.1:
        await asyncio.sleep(0)
        ticks += 1
    assert ticks > 100
    os.write(write, b"done\n")
    assert await asking == "done"


async def test_the_question_says_all_that_is_needed_to_answer_it(piped, question):
    human, (_, write), shown = piped
    more = {"kind": "choice", "options": ("Acme", "Globex"), "default": "Acme", "deadline_s": 250}
    asking = asyncio.ensure_future(human.ask(question("Which one?", **more)))
    os.write(write, b"3\n2\n")
    assert await asking == "Globex"
    assert "".join(shown) == (
        "\n--- scout asks ---\nWhich one?\n  1. Acme\n  2. Globex\n"
        "(Answer with a number from 1 to 2, or with an option's text. "
        "Time left: 4 min 10 s. Without an answer: Acme.)\n"
        "> This is none of the options. Answer with a number from 1 to 2, or with an option's text.\n"
        "> Thank you. scout goes on with your answer.\n"
    )


async def test_one_question_is_shown_at_a_time(piped, question):
    human, (_, write), shown = piped
    asking = [asyncio.ensure_future(human.ask(question(f"Number {i}?", id=str(i)))) for i in range(3)]
    await asyncio.sleep(0.01)
    assert ["Number" in text for text in shown] == [True]
    assert "2 more wait." in shown[0]
    os.write(write, b"a\nb\nc\n")
    assert await asyncio.gather(*asking) == ["a", "b", "c"]


async def test_a_question_whose_time_is_over_before_its_turn_is_never_shown(piped, question):
    human, (_, write), shown = piped
    first = asyncio.ensure_future(human.ask(question("Slow?", id="a")))
    await asyncio.sleep(0.01)
    assert await human.ask(question("Hurried?", id="b", deadline_s=0.05, default="no time")) == "no time"
    os.write(write, b"x\n")
    await first
    assert "Hurried?" not in "".join(shown)


async def test_what_a_model_says_cannot_steer_the_terminal(piped, question):
    human, (_, write), shown = piped
    os.write(write, b"ok\n")
    await human.ask(question("\x1b[2JClear?\x07\r\u202e"))
    assert "\N{REPLACEMENT CHARACTER}[2JClear?" in shown[0]
    assert not set("\x1b\x07\r\u202e") & set("".join(shown))


async def test_a_line_that_was_begun_for_a_question_that_is_over_does_not_answer_the_next(question, until):
    person, program = pty.openpty()
    try:
        shown = []
        human = ConsoleHuman(descriptor=program, write=shown.append)
        os.write(person, b"yes, delete")  # no return yet
        assert await human.ask(question("Delete it?", id="a", deadline_s=0.05, default="no")) == "no"
        asking = asyncio.ensure_future(human.ask(question("Your name?", id="b")))
        await until(lambda: any("Your name?" in text for text in shown))
        os.write(person, b"Ada\n")
        assert await asking == "Ada"
        assert any("The time for this question is over" in text for text in shown)
    finally:
        os.close(person)
        os.close(program)


async def test_a_terminal_that_is_hung_up_has_ended(question):
    person, program = pty.openpty()
    human = ConsoleHuman(descriptor=program, write=lambda text: None)
    asking = asyncio.ensure_future(human.ask(question(deadline_s=900, default="gone")))
    await asyncio.sleep(0.01)
    os.close(person)
    assert await asking == "gone"
    os.close(program)


async def test_a_terminal_that_cannot_be_written_to_fails_the_question(question):
    def broken(text):
        raise OSError("hung up")

    read, write = os.pipe()
    human = ConsoleHuman(descriptor=read, write=broken)
    with pytest.raises(OSError, match="hung up"):
        await human.ask(question())
    assert human.desk.questions() == []
    os.close(read)
    os.close(write)


def test_without_standard_input_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="no standard input"):
        ConsoleHuman()
