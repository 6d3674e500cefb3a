"""Until when a worker may keep its task."""

import math

from aurora_swarm.swarms.leases import ENOUGH, CallPace, Leases


def test_a_lease_ends_some_time_after_the_last_sign_of_life():
    leases = Leases(10.0)
    leases.grant(1, 0.0)
    leases.renew(1, 8.0)
    assert leases.lapsed(10.0) == []
    assert leases.next_due() == 18.0
    assert leases.lapsed(18.0) == [(1, "silent")]


def test_a_lease_that_is_neither_renewed_nor_ended_is_told_again():
    leases = Leases(10.0)
    leases.grant(1, 0.0)
    assert leases.lapsed(10.0) == [(1, "silent")]
    assert leases.lapsed(11.0) == [(1, "silent")]
    leases.end(1)
    assert leases.lapsed(12.0) == []
    assert len(leases) == 0


def test_a_task_s_own_time_ends_it_whatever_signs_of_life_there_are():
    leases = Leases(10.0)
    leases.grant(1, 0.0, 25.0)
    for at in (5.0, 12.0, 20.0):
        leases.renew(1, at)
        assert leases.lapsed(at) == []
    assert leases.lapsed(25.0) == [(1, "too long")]


def test_time_stands_still_for_a_held_lease():
    leases = Leases(10.0)
    leases.grant(1, 0.0, 15.0)
    leases.hold(1, 4.0)
    leases.hold(1, 6.0)
    assert leases.lapsed(100.0) == []
    leases.renew(1, 100.0)
    leases.release(1, 104.0)
    leases.release(1, 105.0)
    assert leases.lapsed(109.0) == []
    assert leases.lapsed(110.0) == [(1, "silent")]
    leases.renew(1, 110.0)
    assert leases.lapsed(115.0) == [(1, "too long")]


def test_what_has_ended_is_renewed_or_held_by_nobody():
    leases = Leases(10.0)
    leases.grant(1, 0.0)
    leases.end(1)
    leases.renew(1, 1.0)
    leases.hold(1, 1.0)
    leases.release(1, 1.0)
    assert leases.lapsed(100.0) == []
    assert leases.next_due() is None


def test_patience_is_without_end_until_enough_is_known():
    pace = CallPace()
    for seconds in range(ENOUGH - 1):
        pace.note(float(seconds))
        assert pace.patience_s(5.0) == math.inf
    pace.note(3.0)
    assert pace.patience_s(5.0) == 24.0
    for _ in range(100):
        pace.note(1.0)
    assert pace.patience_s(5.0) == 5.0
