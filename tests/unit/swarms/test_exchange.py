"""The board of a hivemind: the same in whatever order writes come, and none is lost."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import CallbackError, UsageError
from aurora_swarm.swarms.exchange import Entry, SharedBoard

WRITES = 10_000


def snapshot(board):
    return sorted((view.key, view.value, view.who, view.version, view.contenders) for view in board.views())


def history(dice, writes, keys=20, authors=8):
    """Entries as boards at several sites make them that see each other only now and then."""
    boards = [SharedBoard() for _ in range(4)]
    made = []
    for number in range(writes):
        author = dice.randrange(authors)
        board = boards[author % len(boards)]
        key = f"k{dice.randrange(keys)}"
        seen = {} if dice.random() < 0.2 else None
        made.append(board.write(key, f"v{number}", who=f"a{author}", seen=seen, confidence=dice.random()))
        if dice.random() < 0.05:
            board.merge(dice.choice(boards).entries())
    return made


@pytest.mark.parametrize("rule", ["latest", "confidence", lambda key, entries: max(e.value for e in entries)])
def test_ten_thousand_writes_give_the_same_board_in_any_order_and_more_than_once(rule):
    dice = random.Random(1)
    made = history(dice, WRITES)
    expected = None
    for _ in range(3):
        dice.shuffle(made)
        board = SharedBoard(rule)
        board.merge(made)
        board.merge(dice.sample(made, 500))
        expected = expected or snapshot(board)
        assert snapshot(board) == expected
    assert len(expected) == 20
    assert any(len(contenders) > 1 for *_, contenders in expected)


def test_no_write_is_lost_unless_its_author_or_one_who_had_seen_it_replaced_it():
    made = history(random.Random(2), 2_000)
    board = SharedBoard()
    board.merge(made)
    kept = {(entry.key, *entry.order) for view in board.views() for entry in view.contenders}
    for entry in made:
        replaced = any(other.key == entry.key and other.seen.get(entry.who, 0) >= entry.version for other in made)
        assert ((entry.key, *entry.order) in kept) != replaced


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.booleans()), max_size=12), st.randoms())
def test_any_two_orders_agree(steps, dice):
    board = SharedBoard()
    made = [
        board.write(key, str(number), who=who, seen=None if informed else {})
        for number, (key, who, informed) in enumerate(steps)
    ]
    shuffled = SharedBoard()
    dice.shuffle(made)
    shuffled.merge(made)
    assert snapshot(shuffled) == snapshot(board)


def test_who_has_seen_a_value_replaces_it():
    board = SharedBoard()
    board.write("year", "1994", who="a")
    board.write("year", "1995", who="b", seen=board.read("year").seen)
    view = board.read("year")
    assert (view.value, view.who, view.version, view.is_conflict, view.rule) == ("1995", "b", 2, False, "")


def test_two_who_had_not_seen_each_other_are_shown_to_differ_until_one_has_seen_both():
    board = SharedBoard("confidence")
    board.write("year", "1994", who="a", seen={}, confidence=0.9)
    board.write("year", "1995", who="b", seen={}, confidence=0.5)
    view = board.read("year")
    assert (view.value, view.who, view.is_conflict, view.rule) == ("1994", "a", True, "confidence")
    assert [entry.value for entry in view.contenders] == ["1994", "1995"]
    assert board.conflicts() == [view]
    board.write("year", "1996", who="c", seen=view.seen)
    assert board.read("year").value == "1996"
    assert board.conflicts() == []


def test_equal_values_are_no_conflict():
    board = SharedBoard()
    board.write("year", "1994", who="a", seen={})
    board.write("year", "1994", who="b", seen={})
    assert board.conflicts() == []
    assert board.read("year").value == "1994"


def test_an_author_never_conflicts_with_itself():
    board = SharedBoard()
    board.write("year", "1994", who="a", seen={})
    board.write("year", "1995", who="a", seen={})
    assert [entry.value for entry in board.read("year").contenders] == ["1995"]


def test_a_function_may_choose_one_or_make_a_text_of_all():
    choose = SharedBoard(lambda key, entries: entries[0])
    make = SharedBoard(lambda key, entries: " or ".join(e.value for e in entries))
    for board in (choose, make):
        board.write("year", "1994", who="a", seen={})
        board.write("year", "1995", who="b", seen={})
    assert (choose.read("year").value, choose.read("year").who) == ("1994", "a")
    assert (make.read("year").value, make.read("year").who) == ("1994 or 1995", "a, b")
    assert make.read("year").rule == "<lambda>"


@pytest.mark.parametrize("rule", [lambda key, entries: 1 / 0, lambda key, entries: 7])
def test_a_function_that_does_not_decide_is_named(rule):
    board = SharedBoard(rule)
    board.merge([Entry("year", "1994", 1, "a"), Entry("year", "1995", 1, "b")])
    with pytest.raises(CallbackError, match="'year'"):
        board.read("year")


def test_an_unknown_rule_is_refused_at_once():
    with pytest.raises(UsageError, match="loudest"):
        SharedBoard("loudest")


def test_nothing_is_known_of_a_key_that_nobody_wrote():
    assert SharedBoard().read("year") is None
