"""Citations are read as they are written, and only those count that there is a chunk for."""

import pytest

from aurora_swarm.swarms.citations import Citations, citations_in, with_citations


@pytest.mark.parametrize(
    ("text", "expected", "ok"),
    [
        ("It is red [chunk 3].", Citations((3,), ()), True),
        ("Red [chunk 3], blue [Chunk 1] and red again [chunk 3].", Citations((3, 1), ()), True),
        ("Both [chunks 1, 2 and 9].", Citations((1, 2), (9,)), False),
        ("Nothing [chunk], [chunk x], [chunk -1], chunk 2.", Citations(), False),
        ("[chunk 0] [chunk 99999999999999999999]", Citations((), (0,)), False),
    ],
)
def test_what_a_text_cites(text: str, expected: Citations, ok: bool) -> None:
    found = citations_in(text, range(1, 6))
    assert found == expected
    assert found.ok is ok


def test_citations_of_the_model_s_own_are_replaced() -> None:
    assert with_citations("Red [chunk 77], he\nsaid.", [4, 2, 4]) == "Red , he said. [chunk 4] [chunk 2]"
