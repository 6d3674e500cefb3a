"""Ids: unique, and sorted by when they were made."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.swarms.ids import ALPHABET, Ids, new_id


def test_an_id_is_a_ulid():
    ids = Ids(lambda: 1_469_918_176_385, random.Random(1))
    assert ids().startswith("01ARYZ6S41")  # the time in the example of the specification
    assert len(ids()) == 26
    assert set(ids()) <= set(ALPHABET)


def test_ten_thousand_are_unique_and_ascending():
    made = [new_id() for _ in range(10_000)]
    assert len(set(made)) == len(made)
    assert sorted(made) == made


@given(st.lists(st.integers(0, 2**48 - 2), min_size=2), st.integers())
def test_they_ascend_whatever_the_clock_does(times, seed):
    clock = iter(times)
    ids = Ids(lambda: next(clock), random.Random(seed))
    made = [ids() for _ in times]
    assert all(one < other for one, other in itertools.pairwise(made))


def test_makers_with_their_own_dice_do_not_collide_in_the_same_millisecond():
    one, other = Ids(lambda: 5), Ids(lambda: 5)
    assert not {one() for _ in range(1_000)} & {other() for _ in range(1_000)}
