"""What a context leaves for an answer."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.pools.budgets import ContextBudget, Room, Rooms, length_of, text_length, with_max_tokens
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message


def test_before_anything_is_learned_four_bytes_are_a_token_within_wide_bounds():
    budget = ContextBudget()
    assert budget.at_least(4000) < 1000 < 1500 < budget.at_most(4000)


@pytest.mark.parametrize("bytes_per_token", [1.0, 2.5, 4.0, 6.0])
def test_the_density_of_a_text_is_learned_within_fifty_answers(bytes_per_token):
    budget, dice = ContextBudget(), random.Random(1)
    for _ in range(50):
        length = dice.randrange(100, 4000)
        budget.learn(length, round(20 + length / bytes_per_token))
    true = 20 + 3000 / bytes_per_token
    assert 0.45 * true < budget.at_least(3000) < true < budget.at_most(3000) < 1.5 * true


def test_short_prompts_do_not_teach_that_long_ones_are_dense():
    budget = ContextBudget()
    for _ in range(50):
        budget.learn(20, 35)  # a template of thirty tokens around five
    assert budget.at_most(4000) < 2000


def test_the_bounds_hold_for_98_of_100_prompts_of_a_mixed_stream():
    budget, dice, above, below = ContextBudget(), random.Random(2), 0, 0
    for _ in range(2_000):
        length = int(10 ** dice.uniform(1.5, 4))
        tokens = round(30 + length / dice.gauss(4.0, 0.4))
        above += tokens > budget.at_most(length)
        below += tokens < budget.at_least(length)
        budget.learn(length, tokens)
    assert above < 40
    assert below < 40


def test_a_text_that_changes_its_kind_is_learned_anew():
    budget = ContextBudget()
    for _ in range(200):
        budget.learn(2000, 500)
    for _ in range(200):
        budget.learn(2000, 1500)
    assert budget.at_least(2000) < 1500 < budget.at_most(2000) < 2000


def test_nothing_is_learned_from_a_server_that_does_not_count():
    budget = ContextBudget()
    before = budget.at_most(1000)
    budget.learn(1000, 0)
    assert (budget.learned, budget.at_most(1000)) == (0, before)


def test_a_prompt_that_surely_fits_keeps_its_bound():
    assert ContextBudget().room(400, 1024, 8192) == Room(1024)


def test_the_bound_is_what_context_prompt_and_buffer_leave():
    assert ContextBudget(buffer=100).room_beside(3000, 2000, 4096) == Room(996)


def test_a_prompt_near_the_limit_is_worth_counting():
    room = ContextBudget().room(8000, 2000, 4096)
    assert room.is_close
    assert room.max_tokens is not None
    assert room.max_tokens < 2000


def test_a_prompt_that_surely_does_not_fit_has_no_room():
    assert ContextBudget().room(100_000, 10, 4096) == Room(None, is_close=True)


def test_the_buffer_is_given_up_before_the_answer_is():
    budget = ContextBudget(buffer=512)
    assert budget.room_beside(4090, 100, 4096) == Room(6)
    assert budget.room_beside(4096, 100, 4096) == Room(None)


def test_a_short_context_has_a_short_buffer():
    assert ContextBudget(buffer=512).room_beside(100, 400, 512) == Room(348)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=30),
    st.integers(0, 10**6),
    st.integers(1, 10**5),
    st.integers(16, 10**6),
)
def test_whatever_is_learned_no_room_exceeds_the_wish_or_the_context(learned, length, wanted, context):
    budget = ContextBudget()
    for size, tokens in learned:
        budget.learn(size, tokens)
    assert 0 <= budget.at_least(length) <= budget.at_most(length)
    room = budget.room(length, wanted, context)
    assert room.max_tokens is None or 1 <= room.max_tokens <= min(wanted, context)
    counted = budget.room_beside(length, wanted, context)
    assert counted.max_tokens is None or 1 <= counted.max_tokens <= min(wanted, context - length)


def test_endpoints_too_small_for_a_prompt_are_named():
    rooms = Rooms()
    assert rooms.are_equal
    for index, context in enumerate([2048, 4096, 2048, 8192]):
        rooms.note(index, context)
    assert not rooms.are_equal
    assert [rooms.too_small(n) for n in (100, 2048, 5000, 9000)] == [set(), {0, 2}, {0, 1, 2}, {0, 1, 2, 3}]
    rooms.note(0, 16_384)
    assert rooms.too_small(3000) == {2}


def test_length_counts_bytes():
    assert (text_length("abc"), text_length("日本"), text_length("\ud800")) == (3, 6, 3)
    assert length_of((Message("system", "ab"), Message("user", "é"))) == 4


def test_only_the_bound_on_tokens_changes():
    call = Call((Message("user", "x"),), "m", Sampling(100, 0.5, stop=("END",)))
    assert with_max_tokens(call, 100) is call
    assert with_max_tokens(call, 7) == Call(call.messages, "m", Sampling(7, 0.5, stop=("END",)))
