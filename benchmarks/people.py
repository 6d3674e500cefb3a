"""Short notes about people who do not exist, and questions about them that have one right answer; made from a seed."""

from __future__ import annotations

import random

import msgspec

# fmt: off
FIRST = (
    "Mara", "Tom", "Ines", "Karl", "Yuki", "Lena", "Omar", "Ruth", "Pavel", "Aisha", "Nils", "Clara", "Ivan",
    "Noor", "Felix", "Greta", "Hugo", "Signe", "Marek", "Dalia",
)
LAST = (
    "Lind", "Okafor", "Prado", "Weiss", "Sato", "Novak", "Haddad", "Klein", "Dvorak", "Bello", "Berg",
    "Fontaine", "Moreau", "Larsen", "Costa", "Rossi",
)
JOBS = (
    "baker", "nurse", "pilot", "teacher", "plumber", "lawyer", "painter", "farmer", "chemist", "tailor",
    "barber", "miner",
)
CITIES = (
    "Oslo", "Lisbon", "Prague", "Vienna", "Dublin", "Madrid", "Warsaw", "Athens", "Helsinki", "Zagreb", "Riga",
    "Bern", "Porto", "Turin", "Lyon", "Ghent", "Bergen", "Seville", "Leipzig", "Geneva", "Malmo", "Naples",
)
# fmt: on
FORMS = (
    "{name} works as a {job} in {city}.",
    "In {city}, {name} is known as a good {job}.",
    "The {job} {name} moved to {city} last spring.",
    "{name}, a {job}, has a house in {city}.",
)


class Question(msgspec.Struct, frozen=True):
    """Notes, whom the question is about, and the answer.

    Args:
        notes: One sentence about one person each.
        name: Whose city is asked for.
        city: The answer.
    """

    notes: tuple[str, ...]
    name: str
    city: str


def questions(count: int, notes: int, seed: int) -> list[Question]:
    """Questions over as many notes each; the same for the same seed.

    Args:
        count: How many.
        notes: Sentences of each.
        seed: Of the dice.
    """
    dice = random.Random(seed)
    return [_question(dice, notes) for _ in range(count)]


def _question(dice: random.Random, size: int) -> Question:
    names = [f"{first} {last}" for first, last in zip(dice.sample(FIRST, size), dice.sample(LAST, size), strict=True)]
    cities = dice.sample(CITIES, size)
    notes = [
        dice.choice(FORMS).format(name=name, job=dice.choice(JOBS), city=city)
        for name, city in zip(names, cities, strict=True)
    ]
    asked = dice.randrange(size)
    return Question(tuple(notes), names[asked], cities[asked])
