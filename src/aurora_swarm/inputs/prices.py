"""What models cost, by a table that the user gives.

None is built in: prices change, and a wrong sum of money is worse than none. In YAML, and likewise in TOML and JSON::

    meta-llama/Llama-3.1-70B-Instruct: {prompt: 0.59, completion: 0.79}
    "gpt-4*": {prompt: 2.50, completion: 10.00, cached: 1.25}
    "*": {prompt: 0, completion: 0}

All are US dollars per million tokens. `cached` is for prompt tokens that a cache had; by default they cost as others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec

from aurora_swarm.errors import SpecError
from aurora_swarm.inputs.documents import Document, Trail, load_document
from aurora_swarm.inputs.files import StrPath, describe, suggest
from aurora_swarm.values.budget import Price

_DOLLARS = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_WORDS = "US dollars per million tokens"
_FIELDS: tuple[str, ...] = Price.__struct_fields__
_EXAMPLE = "write for example: {prompt: 0.59, completion: 0.79}"


class PriceTable(msgspec.Struct, frozen=True):
    """Prices by model.

    Args:
        prices: Name of a model, or a pattern of names (``*``, ``?``, ``[abc]``), and what it costs.
        source: The file that says so.
    """

    prices: Mapping[str, Price]
    source: str = ""

    def price_for(self, model: str) -> Price | None:
        """What a model costs: by its own name, else by the first pattern that fits it; None where neither is there."""
        if model in self.prices:
            return self.prices[model]
        return next((price for pattern, price in self.prices.items() if fnmatchcase(model, pattern)), None)


def load_prices(path: StrPath) -> PriceTable:
    """Read a price table from a ``.yaml``, ``.yml``, ``.toml`` or ``.json`` file.

    Raises:
        SpecError: The file cannot be read, is malformed, or holds what is no price; every such place is listed, with
            its line and column where the format has them.
    """
    document = load_document(path, SpecError, (".yaml", ".yml", ".toml", ".json"))
    errors = list(wrong_prices(document, ()))
    if errors:
        raise SpecError.all_of(errors)
    return price_table(document.data, str(path))


def price_table(data: Mapping[str, Any], source: str) -> PriceTable:
    """The table of a document in which nothing is wrong."""
    return PriceTable({name: msgspec.convert(entry, Price) for name, entry in data.items()}, source)


def wrong_prices(document: Document, trail: Trail) -> Iterator[SpecError]:
    """Everything in a part of a document that keeps it from being a price table.

    Args:
        document: Where it stands.
        trail: The part; empty for the whole.
    """
    data = document.data
    for step in trail:
        data = data[step]
    if not isinstance(data, dict) or not data:
        problem = f"expected models and their prices, found {describe(data) if data else 'nothing'}"
        yield document.error(SpecError, trail, problem, f"give each model a line, and {_EXAMPLE}")
        return
    for name, entry in data.items():
        yield from _wrong_entry(document, (*trail, name), entry)


def _wrong_entry(document: Document, trail: Trail, entry: Any) -> Iterator[SpecError]:
    if not isinstance(entry, dict):
        yield document.error(SpecError, trail, f"expected prices, found {describe(entry)}", _EXAMPLE)
        return
    for key in ("prompt", "completion"):
        if key not in entry:
            yield document.error(SpecError, trail, f"{key} is missing", f"add {key}: with {_WORDS}")
    for key, value in entry.items():
        if key not in _FIELDS:
            yield document.error(SpecError, (*trail, key), "unknown key", suggest(key, _FIELDS))
        elif not _is_price(value, key):
            problem = f"expected a number, 0 or more, found {describe(value)}"
            yield document.error(SpecError, (*trail, key), problem, f"give {_WORDS} as a plain number")


def _is_price(value: Any, key: str) -> bool:
    try:
        msgspec.convert(value, _DOLLARS if key != "cached" else _DOLLARS | None)
    except msgspec.ValidationError:
        return False
    return True
