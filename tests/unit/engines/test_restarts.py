from __future__ import annotations

from aurora_swarm.engines.restarts import AT_ONCE_S, FIRST_S, LONGEST_S, pause_s


def test_the_pause_grows_while_it_dies_at_once_and_has_an_upper_bound() -> None:
    pauses = [0.0]
    for _ in range(12):
        pauses.append(pause_s(0.01, pauses[-1]))
    assert pauses[1:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert pauses[-1] == LONGEST_S


def test_what_has_worked_for_a_while_is_begun_again_soon() -> None:
    assert pause_s(AT_ONCE_S, LONGEST_S) == FIRST_S
