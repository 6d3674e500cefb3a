"""Sequences that share an engine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.testing.fleet.token_clock import TokenClock


def test_a_sequence_alone_takes_its_tokens_times_their_time():
    clock = TokenClock()
    clock.set_rate(0.5, 0.0)
    clock.add("a", 4, 1.0)
    assert clock.next_due() == 3.0
    assert clock.due(2.9) == []
    assert clock.due(3.0) == ["a"]
    assert clock.next_due() is None


def test_a_change_of_rate_counts_from_when_it_happens():
    clock = TokenClock()
    clock.set_rate(1.0, 0.0)
    clock.add("a", 10, 0.0)
    clock.set_rate(2.0, 4.0)  # four tokens are there; six take twelve seconds
    assert clock.next_due() == pytest.approx(16.0)


def test_tokens_that_take_no_time_are_there_at_once():
    clock = TokenClock()
    clock.add("a", 10, 5.0)
    clock.add("b", 5, 5.0)
    assert clock.due(5.0) == ["a", "b"]


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20), st.floats(0.01, 3)), min_size=1, max_size=20))
def test_everybody_gets_exactly_the_tokens_of_the_time_that_it_was_there(events):
    """The oracle adds up the tokens of every sequence by itself."""
    clock, now, rate = TokenClock(), 0.0, 1.0
    clock.set_rate(rate, now)
    left: dict[int, float] = {}
    ended, expected = [], []
    for name, (wait, tokens, next_rate) in enumerate(events):
        for other in left:
            left[other] -= wait / rate
        now += wait
        gone = [other for other, rest in left.items() if rest <= 1e-6]
        expected += [(other, round(left.pop(other), 3) <= 0) for other in gone]
        ended += [(other, True) for other in clock.due(now)]
        clock.add(name, tokens, now)
        left[name] = float(tokens)
        rate = next_rate
        clock.set_rate(rate, now)
    assert sorted(ended) == sorted(expected)
