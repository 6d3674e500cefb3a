"""Quantiles of any number of durations, in memory that does not grow."""

from __future__ import annotations

import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.telemetry.quantiles import ERROR, LEAST, Quantiles

durations = st.floats(min_value=LEAST, max_value=1e5)


def quantiles_of(values: list[float]) -> Quantiles:
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    return quantiles


@given(st.lists(durations, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_off_by_a_per_cent_at_most(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    assert quantiles_of(values).quantile(share) == pytest.approx(exact, rel=1.001 * ERROR)


def test_nothing_has_no_quantiles() -> None:
    assert Quantiles().quantile(0.5) is None
    assert Quantiles().spread() is None


def test_the_usual_ones_of_a_hundred() -> None:
    spread = quantiles_of([n / 10 for n in range(1, 101)]).spread()
    assert spread is not None
    assert (spread.count, spread.most_s) == (100, 10.0)
    assert spread.median_s == pytest.approx(5.0, rel=ERROR)
    assert spread.p95_s == pytest.approx(9.5, rel=ERROR)


def test_no_quantile_is_more_than_the_most() -> None:
    spread = quantiles_of([0.30001]).spread()
    assert spread is not None
    assert spread.median_s <= spread.p95_s <= spread.most_s == 0.30001


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -1.0])
def test_what_is_no_duration_is_passed_over(nonsense: float) -> None:
    assert quantiles_of([nonsense]).spread() is None


def test_nothing_at_all_takes_next_to_nothing() -> None:
    assert quantiles_of([0.0]).quantile(0.5) == 0.0


def test_a_million_durations_take_no_more_memory_than_a_thousand_classes() -> None:
    dice = random.Random(1)
    quantiles = quantiles_of([dice.lognormvariate(0, 2) for _ in range(100_000)])
    assert len(quantiles._classes) < 1_500
    assert sys.getsizeof(quantiles._classes) < 2**17
    assert quantiles.quantile(0.5) == pytest.approx(1.0, rel=0.05)
