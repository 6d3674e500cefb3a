from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.journal.shares import fair_part, granted

wants = st.dictionaries(st.text(max_size=3), st.integers(0, 40), min_size=1, max_size=8)


@given(wants, st.integers(0, 50))
def test_parts_use_all_that_there_is_and_no_more(wants: dict[str, int], total: int) -> None:
    parts = {owner: fair_part(wants, owner, total) for owner in wants}
    assert sum(parts.values()) == min(total, sum(wants.values()))
    assert all(0 <= parts[owner] <= wants[owner] for owner in wants)


@given(wants, st.integers(0, 50))
def test_nobody_has_more_than_one_above_another_who_wants_more(wants: dict[str, int], total: int) -> None:
    parts = {owner: fair_part(wants, owner, total) for owner in wants}
    for owner, part in parts.items():
        if part < wants[owner]:
            assert part >= max(parts.values()) - 1


def test_what_is_held_is_kept_and_no_more_is_given_than_is_free() -> None:
    assert granted(part=4, held=7, free=8) == 7
    assert granted(part=4, held=0, free=3) == 3
    assert granted(part=4, held=0, free=-2) == 0
    assert granted(part=4, held=1, free=8) == 4
