"""A typed function becomes a tool that a model can be held to."""

import asyncio
import functools
from typing import Literal

import pytest
from pydantic import BaseModel

from aurora_swarm import Tool, errors
from aurora_swarm.tools.definition import ArgumentsRefusedError, as_tool


@Tool.define(effect="pure", rate_limit=5)
async def fetch_gene(symbol: str, limit: int = 3) -> str:
    """Return the annotation of a gene.

    Args:
        symbol: HGNC symbol,
            for example "TP53".
        limit: How many lines.

    Returns:
        The annotation.
    """
    return symbol * limit


def test_name_description_and_parameters_come_from_the_function():
    assert fetch_gene.name == "fetch_gene"
    assert fetch_gene.description == "Return the annotation of a gene."
    assert fetch_gene.parameters == {
        "type": "object",
        "properties": {
            "symbol": {"type": "string", "description": 'HGNC symbol, for example "TP53".', "maxLength": 2000},
            "limit": {"type": "integer", "description": "How many lines.", "default": 3},
        },
        "required": ["symbol"],
        "additionalProperties": False,
    }
    assert (fetch_gene.effect, fetch_gene.rate_limit) == ("pure", 5)


def test_a_tool_is_still_callable_like_its_function():
    assert asyncio.run(fetch_gene("ab", limit=2)) == "abab"


def test_define_without_arguments_is_careful():
    @Tool.define
    def send(text: str) -> None:
        """Send."""

    assert send.effect == "effect"


def test_a_plain_function_is_a_tool_too():
    def double(n: int) -> int:
        """Double."""
        return 2 * n

    assert as_tool(double).name == "double"
    assert as_tool(fetch_gene) is fetch_gene


def test_arguments_are_validated_into_what_the_function_takes():
    class Point(BaseModel):
        x: float

    @Tool.define
    def move(to: Point, mode: Literal["fast", "slow"] = "slow") -> str:
        """Move."""
        return mode

    assert move.validated({"to": {"x": 1}}) == {"to": Point(x=1), "mode": "slow"}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"symbol": 3}, {"symbol": "a", "limit": "many"}, {"symbol": "a", "colour": "red"}, {"symbol": None}],
)
def test_wrong_arguments_are_refused_with_the_field(arguments):
    with pytest.raises(ArgumentsRefusedError, match=r"symbol|limit|colour"):
        fetch_gene.validated(arguments)


def untyped(a):
    """No type."""


def variadic(*things: str):
    """Star."""


def keyed(**things: str):
    """Two stars."""


def positional(a: int, /):
    """Positional only."""


def strange(a: "NoSuchType"):  # noqa: F821
    """A type that is not there."""


def callback(a: asyncio.Task):
    """A type that JSON lacks."""


def generator(a: int):
    """Many values."""
    yield a


@pytest.mark.parametrize("function", [untyped, variadic, keyed, positional, strange, callback, generator])
def test_a_function_that_cannot_be_offered_is_refused_by_name(function):
    with pytest.raises(errors.ToolDefinitionError, match=function.__name__):
        Tool.define(function)


@pytest.mark.parametrize("nothing", [None, 3, "read_file", BaseModel])
def test_what_is_no_tool_is_refused(nothing):
    with pytest.raises(errors.ToolDefinitionError):
        as_tool(nothing)


@pytest.mark.parametrize("options", [{"rate_limit": 0}, {"timeout": -1}, {"max_chars": 0}, {"name": "two words"}])
def test_numbers_and_names_that_make_no_sense_are_refused(options):
    with pytest.raises(errors.ToolDefinitionError):
        Tool.define(**options)(lambda: None)


def test_a_granted_parameter_is_an_enum_and_is_checked_again():
    limited = fetch_gene.limit(symbol=["TP53", "BRCA1"])
    assert limited.parameters["properties"]["symbol"]["enum"] == ["TP53", "BRCA1"]
    assert limited.validated({"symbol": "TP53"})["symbol"] == "TP53"
    with pytest.raises(ArgumentsRefusedError, match="TP53, BRCA1"):
        limited.validated({"symbol": "MYC"})
    assert "enum" not in fetch_gene.parameters["properties"]["symbol"]


def test_a_grant_may_follow_the_agents_input():
    limited = fetch_gene.limit(symbol="{gene}")
    one, other = limited.bind({"gene": "TP53"}), limited.bind({"gene": "{gene}"})
    assert one.parameters["properties"]["symbol"]["enum"] == ["TP53"]
    assert other.parameters["properties"]["symbol"]["enum"] == ["{gene}"]
    assert fetch_gene.bind({}) is fetch_gene


def test_a_grant_for_a_missing_field_is_named_before_the_run():
    with pytest.raises(errors.TemplateError, match="gene"):
        fetch_gene.limit(symbol="{gene}").check_grants({"name"}, "input 0")


def test_a_template_that_nobody_filled_in_grants_nothing():
    with pytest.raises(ArgumentsRefusedError, match="none"):
        fetch_gene.limit(symbol="{gene}").validated({"symbol": "gene"})


def test_every_text_within_the_arguments_is_bounded():
    @Tool.define
    def note(tags: list[str], title: str | None = None) -> None:
        """Note."""

    properties = note.parameters["properties"]
    assert properties["tags"]["items"]["maxLength"] == 2000
    assert properties["title"]["anyOf"][0]["maxLength"] == 2000


def test_a_parameter_may_be_called_like_a_method_of_a_model():
    @Tool.define
    def query(schema: str, copy: bool = False) -> str:
        """Query."""
        return schema

    assert query.validated({"schema": "s", "copy": True}) == {"schema": "s", "copy": True}


def test_a_function_without_a_name_needs_one():
    with pytest.raises(errors.ToolDefinitionError, match="name"):
        Tool.define(functools.partial(fetch_gene.function, limit=1))


@pytest.mark.parametrize("grants", [{"nothing": ["a"]}, {"symbol": []}, {"limit": ["3"]}])
def test_grants_that_make_no_sense_are_refused(grants):
    with pytest.raises(errors.ToolDefinitionError):
        fetch_gene.limit(**grants)
