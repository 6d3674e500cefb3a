"""A price table says what models cost; whatever is no price is named with its place."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import SpecError
from aurora_swarm.inputs.prices import PriceTable, load_prices
from aurora_swarm.values.budget import Price
from aurora_swarm.values.reply import Usage

YAML = """
big-model: {prompt: 2.5, completion: 10, cached: 1.25}
"small-*": {prompt: 0.1, completion: 0.2}
"*": {prompt: 0, completion: 0}
"""
TOML = """
[big-model]
prompt = 2.5
completion = 10
cached = 1.25
["small-*"]
prompt = 0.1
completion = 0.2
["*"]
prompt = 0
completion = 0
"""
TABLE = {"big-model": Price(2.5, 10, 1.25), "small-*": Price(0.1, 0.2), "*": Price(0, 0)}
AS_JSON = json.dumps(
    {name: {"prompt": p.prompt, "completion": p.completion, "cached": p.cached} for name, p in TABLE.items()}
)


@pytest.mark.parametrize(("name", "text"), [("p.yaml", YAML), ("p.yml", YAML), ("p.toml", TOML), ("p.json", AS_JSON)])
def test_a_table_is_read_from_every_format(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert load_prices(path) == PriceTable(TABLE, str(path))


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("big-model", Price(2.5, 10, 1.25)),
        ("small-8b", Price(0.1, 0.2)),
        ("small-", Price(0.1, 0.2)),
        ("Small-8b", Price(0, 0)),
        ("other", Price(0, 0)),
        ("", Price(0, 0)),
    ],
)
def test_a_name_goes_before_a_pattern_and_an_earlier_pattern_before_a_later_one(model: str, price: Price) -> None:
    assert PriceTable(TABLE).price_for(model) == price


def test_a_name_with_brackets_is_a_name_first() -> None:
    assert PriceTable({"m[1]": Price(1, 1)}).price_for("m[1]") == Price(1, 1)


def test_a_model_that_the_table_does_not_know_has_no_price() -> None:
    assert PriceTable({"big-*": Price(1, 1)}).price_for("small") is None


def test_cached_tokens_cost_what_the_table_says_of_them() -> None:
    usage = Usage(prompt_tokens=1_000_000, completion_tokens=100_000, cached_tokens=400_000)
    assert PriceTable(TABLE).price_for("big-model").of(usage) == pytest.approx(0.6 * 2.5 + 0.4 * 1.25 + 1.0)
    assert PriceTable(TABLE).price_for("small-8b").of(usage) == pytest.approx(0.1 + 0.02)


@pytest.mark.parametrize(
    ("name", "text", "place", "field", "problem", "remedy"),
    [
        ("p.yaml", "", "", "", "found nothing", "give each model a line"),
        ("p.yaml", "- m", "", "", "found a list", "{prompt: 0.59"),
        ("p.yaml", "m: 5", ":1:1", "m", "expected prices, found 5", "{prompt: 0.59"),
        ("p.yaml", "m:\n  prompt: 1", ":1:1", "m", "completion is missing", "add completion:"),
        ("p.yaml", "m:\n  prompt: 1\n  completion: free", ":3:3", "m.completion", "the text 'free'", "plain number"),
        ("p.yaml", "m:\n  prompt: -1\n  completion: 1", ":2:3", "m.prompt", "0 or more, found -1", "US dollars"),
        ("p.yaml", "m: {prompt: 1, completion: 1, cache: 1}", ":1:31", "m.cache", "unknown key", "'cached'"),
        ("p.yaml", "m: {prompt: true, completion: 1}", ":1:5", "m.prompt", "found true", "US dollars"),
        ("p.toml", "x = 1\n[m]\nprompt = 1\n", ":1:1", "x", "expected prices, found 1", "{prompt: 0.59"),
        ("p.toml", "[m]\nprompt = inf\ncompletion = 1", ":1:1", "m.prompt", "0 or more, found Infinity", "US dollars"),
        ("p.json", '{"m": {"prompt": 1,\n "completion": null}}', ":2:2", "m.completion", "found null", "US dollars"),
        ("p.ini", "x", "", "", "the suffix '.ini'", "*.yaml"),
    ],
)
def test_a_mistake_is_named_by_file_line_field_and_remedy(
    tmp_path: Path, name: str, text: str, place: str, field: str, problem: str, remedy: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        load_prices(path)
    assert (caught.value.place, caught.value.field) == (f"{path}{place}", field)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_every_mistake_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("a: 1\nb: {prompt: 1}\nc: {prompt: x, completion: 1}\n")
    with pytest.raises(SpecError) as caught:
        load_prices(path)
    assert [e.field for e in (caught.value, *caught.value.others)] == ["a", "b", "c.prompt"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        load_prices(tmp_path / "none.yaml")


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["prompt", "completion", "cached", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_any_table_is_prices_or_an_error(tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "p.json"
    path.write_text(json.dumps(table))
    with suppress(SpecError):
        assert all(price.of(Usage(1, 1, 1)) >= 0 for price in load_prices(path).prices.values())
