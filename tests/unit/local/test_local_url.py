"""What ``local://`` may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.errors import InputError
from aurora_swarm.local.open import parse_local_url


def test_a_bare_url_means_the_default_model() -> None:
    assert parse_local_url("local://") == (None, {})


def test_a_path_names_the_model_and_options_are_numbers() -> None:
    assert parse_local_url("local:///models/a%20b.gguf?slots=8&context=4096&threads=2&port=8001") == (
        "/models/a b.gguf",
        {"slots": 8, "context": 4096, "threads": 2, "port": 8001},
    )


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "1.5", "²", "9" * 5000])
def test_an_option_that_is_no_positive_number_names_the_field(value: str) -> None:
    with pytest.raises(InputError, match="no whole number") as caught:
        parse_local_url(f"local://?slots={value}")
    assert caught.value.field == "slots"


def test_an_unknown_option_tells_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown option slot") as caught:
        parse_local_url("local://?slot=8")
    assert "slots, context, threads" in caught.value.remedy


@pytest.mark.parametrize("url", ["local://model.gguf", "local://[", "http://localhost", "local://host/model.gguf"])
def test_what_is_no_local_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_local_url(url)
    assert "local:///" in caught.value.remedy


@given(st.text(max_size=40))
def test_no_text_ends_in_another_error(text: str) -> None:
    try:
        parse_local_url("local:" + text)
    except InputError:
        return
