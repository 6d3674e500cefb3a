"""A long text with facts planted in it, to see whether what searches it finds them.

The text is the journal of many research stations. Every fact is one sentence among thousands that have its words and
not its meaning: other stations, other devices, the same device on another day. A question asks in other words than the
fact is told in.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec


def _listed(*lines: str) -> list[str]:
    return [name for line in lines for name in line.split("|")]


_STATIONS = _listed(
    "Aldgrove|Brenna|Corrin|Dunmere|Eastlow|Farholm|Gantry|Harrowby|Islemoor|Jarrow|Kestrel|Lindow|Marston|Norcliff",
    "Osmer|Penhale|Quarrel|Ravenscar|Stanwick|Thornby|Ulverton|Varley|Westray|Yarrow|Zennor",
)
_PEOPLE = _listed(
    "Abara|Bellini|Castellan|Dvorak|Eriksen|Fontaine|Gupta|Haddad|Ivanova|Jimenez|Kowalski|Lindqvist|Moreau|Nakamura",
    "Okafor|Petrov|Quispe|Rossi|Schneider|Tanaka|Ueda|Varga|Weber|Xu|Yilmaz|Zhang",
)
_DEVICES = _listed(
    "centrifuge|spectrometer|cold trap|turbine|seismograph|water pump|telescope mount|gas detector|weather mast",
    "ice drill|radio beacon|battery bank|furnace|tide gauge|sample freezer",
)
_ROUTINE = (
    "The {device} at {station} ran without complaint for most of the {time}.",
    "{person} walked to {station} before {time} and found the {device} in order.",
    "At {station} the crew talked about the {device}, the food and the road.",
    "Nothing was changed on the {device} of {station} that {time}.",
    "{person} wrote that the {time} at {station} had been quiet.",
    "The log of {station} lists the {device} among the things to look at again.",
    "Rain reached {station} during the {time}, and the {device} stayed covered.",
    "{person} asked for a second opinion on the {device} at {station}.",
    "A visitor from {other} spent the {time} at {station} and was shown the {device}.",
    "The report on the {device} was sent from {station} to {other} by {person}.",
    "Snow lay deep around {station}, so the {device} was read from afar.",
    "{person} and a guest from {other} had tea beside the {device} at {station}.",
)
_TIMES = _listed("morning|afternoon|evening|night|week|month|spring|summer|autumn|winter")
_FACTS = (
    (
        "The spare key of the {device} at {station} hangs behind the {thing}.",
        "Where is the spare key for {station}'s {device}?",
        "thing",
    ),
    ("The {device} at {station} was built by the firm {firm}.", "Who manufactured {station}'s {device}?", "firm"),
    (
        "The {device} at {station} draws {number} watts when it is idle.",
        "How many watts does the {device} of {station} use while idle?",
        "number",
    ),
    (
        "{person} repaired the {device} at {station} with parts of a {thing}.",
        "Who fixed the {device} in {station}?",
        "person",
    ),
    ("The password for the {device} at {station} is {word}.", "What password opens the {device} in {station}?", "word"),
)
_THINGS = _listed(
    "barometer|red ladder|chart table|coal scuttle|flag locker|old bicycle|map chest|piano|rain barrel|tool cabinet"
)
_FIRMS = _listed(
    "Ostrava Instruments|Hale and Moss|Nordlys Works|Pagoda Machines|Tessel Brothers|Umbra Optics|Vantage Steel"
)
_WORDS = _listed("amberfox|birchwren|copperjay|dovelark|emberfinch|frostlynx|glassmoth|hollyhare|ironswan|juniperowl")


class Fact(msgspec.Struct, frozen=True):
    """One planted fact.

    Args:
        sentence: As it stands in the text, once.
        question: Asks for it.
        answer: What only its sentence says.
        start: Where the sentence begins in the text.
    """

    sentence: str
    question: str
    answer: str
    start: int


class Haystack(msgspec.Struct, frozen=True):
    """A text and what is planted in it.

    Args:
        text: All of it.
        facts: In the order of the text.
    """

    text: str
    facts: tuple[Fact, ...]


def haystack(seed: int, tokens: int, facts: int = 20, *, count: Callable[[str], int]) -> Haystack:
    """Make a text of at least so many tokens; the same one for the same arguments.

    Args:
        seed: Of the dice.
        tokens: How long it shall be.
        facts: How many are planted, spread evenly; 375 at most, each about another device of another station.
        count: Counts the tokens of a sentence.
    """
    dice = random.Random(seed)  # noqa: S311 - nothing secret
    places = dice.sample([(device, station) for device in _DEVICES for station in _STATIONS], facts)
    parts: list[str] = []
    told: list[Fact] = []
    used = length = 0
    while used < tokens:
        fact = None
        if len(told) < facts and used >= (len(told) + 0.5) * tokens / facts:
            fact = _fact(dice, *places[len(told)], length)
            told.append(fact)
        sentence = fact.sentence if fact else _routine(dice)
        sentence += "\n\n" if dice.random() < 0.12 else " "
        parts.append(sentence)
        used += count(sentence)
        length += len(sentence)
    return Haystack("".join(parts), tuple(told))


def _routine(dice: random.Random) -> str:
    station, other = dice.sample(_STATIONS, 2)
    words = {"device": dice.choice(_DEVICES), "person": dice.choice(_PEOPLE), "time": dice.choice(_TIMES)}
    return dice.choice(_ROUTINE).format(station=station, other=other, **words)


def _fact(dice: random.Random, device: str, station: str, start: int) -> Fact:
    told, asked, wanted = dice.choice(_FACTS)
    words = {
        "device": device,
        "station": station,
        "thing": dice.choice(_THINGS),
        "firm": dice.choice(_FIRMS),
        "person": dice.choice(_PEOPLE),
        "number": str(dice.randrange(100, 1000)),
        "word": dice.choice(_WORDS),
    }
    return Fact(told.format(**words), asked.format(**words), words[wanted], start)
