"""The law: where particles head, that they stay on the sphere, and when a search is over."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.particles import Law, Particle, Place, StopRule, arrived, begun, fittest, heading, stayed

NUMBERS = st.floats(-1, 1)
POINTS = st.lists(NUMBERS, min_size=3, max_size=3).map(tuple)
LAW = Law()


def unit(*numbers: float) -> tuple[float, ...]:
    return tuple(number / math.hypot(*numbers) for number in numbers)


def at(*numbers: float, fitness: float = 0.0) -> Place:
    return Place("a text", unit(*numbers), fitness)


def never() -> float:
    return 0.0


def always() -> float:
    return 1.0


def test_with_no_pull_it_goes_straight_on_and_slows_down() -> None:
    particle = Particle(at(1, 0), at(1, 0), (0.0, 0.5))
    velocity, ahead = heading(particle, unit(0, 1), LAW, never)
    assert velocity == pytest.approx((0.0, 0.5 * LAW.inertia))
    assert ahead == pytest.approx(unit(1.0, 0.5 * LAW.inertia))


def test_each_best_pulls_as_strongly_as_the_law_says() -> None:
    law = Law(inertia=0, personal=0.25, social=0.5, most_speed=10)
    particle = Particle(at(1, 0, 0), at(0, 1, 0), (9.0, 9.0, 9.0))
    velocity, _ = heading(particle, unit(0, 0, 1), law, always)
    assert velocity == pytest.approx((-0.75, 0.25, 0.5))


def test_dice_are_thrown_for_every_dimension_and_pull() -> None:
    thrown = []
    heading(Particle(at(1, 0, 0), at(0, 1, 0), (0.0,) * 3), unit(0, 0, 1), LAW, lambda: thrown.append(1) or 0.5)
    assert len(thrown) == 6


@given(POINTS, POINTS, POINTS, POINTS, st.integers())
def test_points_ahead_lie_on_the_sphere_and_speed_is_bounded(here, best, velocity, guide, seed) -> None:
    particle = Particle(Place("", here, 0), Place("", best, 0), velocity)
    moved, ahead = heading(particle, guide, LAW, random.Random(seed).random)
    assert math.hypot(*moved) <= LAW.most_speed + 1e-9
    assert ahead == here or math.hypot(*ahead) == pytest.approx(1)


def test_particles_that_arrive_where_they_head_gather_at_the_best_point() -> None:
    """The law itself, where a text could be written for every point: the sphere has one best point, and all find it."""
    dice = random.Random(7)
    target = unit(*(dice.gauss(0, 1) for _ in range(8)))

    def place(position: tuple[float, ...]) -> Place:
        return Place("", position, sum(a * b for a, b in zip(position, target, strict=True)))

    swarm = [begun(place(unit(*(dice.gauss(0, 1) for _ in range(8)))), dice.random, LAW) for _ in range(10)]
    start = max(each.best.fitness for each in swarm)
    for _ in range(80):
        guide = max((each.best for each in swarm), key=lambda best: best.fitness)
        headings = [heading(each, guide.position, LAW, dice.random) for each in swarm]
        swarm = [arrived(each, place(ahead), v) for each, (v, ahead) in zip(swarm, headings, strict=True)]
    assert start < 0.9
    assert min(each.best.fitness for each in swarm) > 0.99


def test_a_place_is_the_best_only_when_it_is_better() -> None:
    particle = Particle(at(1, 0, fitness=1), at(1, 0, fitness=2), (0.0, 0.0))
    assert arrived(particle, at(0, 1, fitness=2), (1.0, 1.0)).best is particle.best
    better = at(0, 1, fitness=2.5)
    moved = arrived(particle, better, (1.0, 1.0))
    assert (moved.here, moved.best, moved.velocity) == (better, better, (1.0, 1.0))


def test_who_wrote_nothing_stays_and_slows_down() -> None:
    particle = Particle(at(1, 0), at(0, 1), (0.5, 0.0))
    assert stayed(particle, LAW) == Particle(particle.here, particle.best, (0.5 * LAW.inertia, 0.0))


def test_a_particle_begins_with_a_small_velocity_of_its_own() -> None:
    dice = random.Random(1).random
    first, second = begun(at(1, 0), dice, LAW), begun(at(1, 0), dice, LAW)
    assert first.velocity != second.velocity
    assert all(0 < math.hypot(*each.velocity) <= 0.5 for each in (first, second))
    assert begun(Place("", (0.0, 0.0), 0), lambda: 0.5, LAW).velocity == (0.0, 0.0)


def test_the_fittest_is_the_first_among_equals() -> None:
    first, second = at(1, 0, fitness=3), at(0, 1, fitness=3)
    assert fittest([at(1, 1, fitness=1), first, second]) is first
    assert fittest([]) is None


@pytest.mark.parametrize(
    ("rule", "bests", "reason"),
    [
        (StopRule(rounds=3), [1.0, 2.0], ""),
        (StopRule(rounds=3), [1.0, 2.0, 3.0], "rounds"),
        (StopRule(rounds=9, target=2.0), [1.0, 2.0], "target"),
        (StopRule(rounds=2, target=2.0), [1.0, 2.0], "target"),
        (StopRule(rounds=9, target=0.0), [-1.0], ""),
        (StopRule(rounds=9, patience=2), [1.0, 1.0], ""),
        (StopRule(rounds=9, patience=2), [1.0, 1.0, 1.0], "patience"),
        (StopRule(rounds=9, patience=2), [1.0, 1.0, 1.5], ""),
        (StopRule(rounds=9, patience=1), [-math.inf, -math.inf], "patience"),
        (StopRule(), [], ""),
    ],
)
def test_when_a_search_is_over(rule: StopRule, bests: list[float], reason: str) -> None:
    assert rule.reason(bests) == reason


@pytest.mark.parametrize(
    "make",
    [
        lambda: Law(inertia=1.0),
        lambda: Law(social=-1),
        lambda: Law(most_speed=0),
        lambda: StopRule(rounds=0),
        lambda: StopRule(patience=0),
        lambda: StopRule(target=math.nan),
    ],
)
def test_numbers_out_of_range_are_refused(make) -> None:
    with pytest.raises(UsageError):
        make()
