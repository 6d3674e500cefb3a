"""What counts as an answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.human.questions import MAX_ANSWER_CHARS, AnswerRefusedError, Question, checked, span, spelt

COLOURS = {"kind": "choice", "options": ("red", "green", "2", "Red")}


@pytest.mark.parametrize(
    ("more", "given", "answer"),
    [
        ({}, "  because \n", "because"),
        ({"kind": "number"}, " -1.5e3 ", -1500.0),
        ({"kind": "number"}, ".5", 0.5),
        ({"kind": "number"}, 7, 7.0),
        ({"kind": "yes_no"}, "Y", True),
        ({"kind": "yes_no"}, "no", False),
        ({"kind": "yes_no"}, False, False),
        (COLOURS, "green", "green"),
        (COLOURS, "GREEN", "green"),
        (COLOURS, "1", "red"),
        (COLOURS, "2", "2"),  # the text of an option comes before its number
        (COLOURS, "Red", "Red"),
    ],
)
def test_a_good_answer_is_taken_as_what_it_means(question, more, given, answer):
    taken = checked(question(**more), given)
    assert taken == answer
    assert type(taken) is type(answer)


@pytest.mark.parametrize(
    ("more", "given", "problem"),
    [
        ({}, " \n ", "An empty answer"),
        ({}, "x" * (MAX_ANSWER_CHARS + 1), "10,001 characters"),
        ({"kind": "number"}, "many", "This is no number"),
        ({"kind": "number"}, "nan", "This is no number"),
        ({"kind": "number"}, "1e999", "This is no number"),
        ({"kind": "number"}, "1_000", "This is no number"),
        ({"kind": "yes_no"}, "maybe", "neither yes nor no"),
        (COLOURS, "blue", "none of the options"),
        (COLOURS, "0", "none of the options"),
        (COLOURS, "5", "none of the options"),
        (COLOURS, "9" * 40, "none of the options"),
        (COLOURS, "RED", "none of the options"),  # two are alike
    ],
)
def test_another_one_is_refused_with_a_sentence(question, more, given, problem):
    with pytest.raises(AnswerRefusedError, match=problem):
        checked(question(**more), given)


def test_a_check_of_the_users_own_says_what_is_wrong(question):
    def even(answer):
        return None if answer % 2 == 0 else "An even number, please."

    asked = question(kind="number", validate=even)
    assert checked(asked, "4") == 4
    with pytest.raises(AnswerRefusedError, match=r"^An even number, please\.$"):
        checked(asked, "3")


def test_a_check_may_raise_instead(question):
    def known(answer):
        raise ValueError(f"Nobody knows {answer}.")

    with pytest.raises(AnswerRefusedError, match=r"^Nobody knows Bob\.$"):
        checked(question(validate=known), "Bob")


def test_a_check_that_says_yes_or_no_instead_of_what_is_wrong_is_an_error_not_an_answer(question):
    for said in (True, False):
        with pytest.raises(TypeError, match="returns a sentence"):
            checked(question(validate=lambda answer, said=said: said), "x")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "choice"},
        {"options": ("a",)},
        {"kind": "choice", "options": ("a", "a")},
        {"deadline_s": 0},
        {"deadline_s": math.inf},
        {"deadline_s": math.nan},
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(wrong):
    with pytest.raises(UsageError):
        Question(id="q", worker="w", text="?", **wrong)


@given(st.text())
def test_whatever_is_typed_is_an_answer_or_a_sentence(text):
    for more in ({}, {"kind": "number"}, {"kind": "yes_no"}, COLOURS):
        said = ""
        try:
            checked(Question(id="q", worker="w", text="?", **more), text)
        except AnswerRefusedError as error:
            said = str(error)
        assert said == "" or said.endswith((".", "most."))


def test_answers_and_times_are_spelt_for_people():
    assert [spelt(answer) for answer in (True, False, 3.0, 0.1, "x")] == ["yes", "no", "3", "0.1", "x"]
    assert [span(seconds) for seconds in (-1, 0.2, 60, 3599.5, 4000)] == [
        "0 s",
        "1 s",
        "1 min 0 s",
        "1 h 0 min",
        "1 h 6 min",
    ]
