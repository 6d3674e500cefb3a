"""How particles move: the law of a particle swarm, with embeddings of texts as positions. Pure.

The law is that of Kennedy and Eberhart, "Particle Swarm Optimization" (1995), with the inertia of Shi and Eberhart
(1998) and the constants that Clerc and Kennedy (2002) show to converge. For a particle with position ``x``, velocity
``v``, the best position ``p`` of its own and the best ``g`` of those that it looks to, in every dimension::

    v <- inertia * v + personal * r1 * (p - x) + social * r2 * (g - x)        r1, r2 uniform in [0, 1)
    x <- x + v

Texts differ from numbers in that nobody can write the text of a given embedding. So ``x + v`` is where a particle
*heads*: it is shown the fittest of the swarm's texts around that point, and writes the next one. Where it *arrives* is
the embedding of what it wrote. Its velocity stays that of the law, no longer than `Law.most_speed`: what it failed to
reach goes on pulling. Embeddings have length 1 and are compared by angle, so points are brought back to the sphere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from aurora_swarm.errors import UsageError

Vector = tuple[float, ...]
Dice = Callable[[], float]
"""Numbers in [0, 1), each as likely."""

Reason = Literal["", "target", "patience", "rounds", "budget", "failed"]


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """The constants of the law.

    Args:
        inertia: How much of its velocity a particle keeps, below 1.
        personal: How strongly its own best pulls.
        social: How strongly the best of those that it looks to pulls.
        most_speed: Length of a velocity at most, where 1 is the radius of the sphere that positions lie on.

    Raises:
        UsageError: A constant is out of range.
    """

    inertia: float = 0.7298
    personal: float = 1.49618
    social: float = 1.49618
    most_speed: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.inertia < 1 or self.personal < 0 or self.social < 0 or not self.most_speed > 0:
            raise UsageError(
                f"{self} moves nothing, or does not settle", remedy="give an inertia below 1 and nothing negative"
            )


class Place(msgspec.Struct, frozen=True):
    """A text that was tried.

    Args:
        text: What it says.
        position: Its embedding.
        fitness: How good it is; more is better.
    """

    text: str
    position: Vector
    fitness: float


class Particle(msgspec.Struct, frozen=True):
    """One particle between two moves.

    Args:
        here: Where it is.
        best: The best place that it has been at; the earlier one among equals.
        velocity: How it moves.
    """

    here: Place
    best: Place
    velocity: Vector


class StopRule(msgspec.Struct, frozen=True, kw_only=True):
    """When a swarm has searched enough.

    Args:
        rounds: Moves of every particle at most, the first texts included.
        target: Fitness that is good enough; None for none.
        patience: Rounds without a better text after which it is given up; None for none.

    Raises:
        UsageError: A number is below 1, or the target is no number.
    """

    rounds: int = 10
    target: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or (self.patience is not None and self.patience < 1) or math.isnan(self.target or 0):
            raise UsageError(f"{self} ends nothing", remedy="give 1 round or more, and a target that is a number")

    def reason(self, bests: Sequence[float]) -> Reason:
        """Why the search is over; empty while it is not.

        Args:
            bests: The best fitness so far, after each round, rising; minus infinity before there is a text.
        """
        if bests and self.target is not None and bests[-1] >= self.target:
            return "target"
        if len(bests) >= self.rounds:
            return "rounds"
        if self.patience is not None and len(bests) > self.patience and bests[-1] <= bests[-1 - self.patience]:
            return "patience"
        return ""


def begun(here: Place, dice: Dice, law: Law) -> Particle:
    """A particle at its first place, with a small velocity in a direction of its own."""
    drawn = tuple(dice() - 0.5 for _ in here.position)
    return Particle(here, here, _of_length(drawn, law.most_speed * dice() / 2))


def heading(particle: Particle, guide: Vector, law: Law, dice: Dice) -> tuple[Vector, Vector]:
    """Where a particle moves next.

    Args:
        particle: Where it is.
        guide: The best position of those that it looks to.
        law: The constants.
        dice: Drawn twice per dimension.

    Returns:
        Its new velocity, and the point that it heads to, of length 1.
    """
    here = particle.here.position
    velocity = tuple(
        law.inertia * v + law.personal * dice() * (p - x) + law.social * dice() * (g - x)
        for v, p, g, x in zip(particle.velocity, particle.best.position, guide, here, strict=True)
    )
    speed = math.hypot(*velocity)
    if speed > law.most_speed:
        velocity = _of_length(velocity, law.most_speed)
    ahead = tuple(x + v for x, v in zip(here, velocity, strict=True))
    return velocity, _of_length(ahead, 1.0) if any(ahead) else here


def arrived(particle: Particle, here: Place, velocity: Vector) -> Particle:
    """A particle at its next place."""
    return Particle(here, here if here.fitness > particle.best.fitness else particle.best, velocity)


def stayed(particle: Particle, law: Law) -> Particle:
    """A particle that wrote nothing: where it was, slower."""
    return Particle(particle.here, particle.best, tuple(law.inertia * v for v in particle.velocity))


def fittest(places: Iterable[Place]) -> Place | None:
    """The best place, the first among equals; None of none."""
    return max(places, key=lambda place: place.fitness, default=None)


def _of_length(vector: Vector, length: float) -> Vector:
    now = math.hypot(*vector)
    return tuple(number * length / now for number in vector) if now > 0 else vector
