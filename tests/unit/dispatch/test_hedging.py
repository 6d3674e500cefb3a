"""Rivals go to attempts that are late, hung or better off elsewhere, within their budgets."""

from aurora_swarm.dispatch.hedging import EBB, ENOUGH, Flights, Pace
from aurora_swarm.values.policy import HedgePolicy


class Flight:
    def __init__(self, index, began):
        self.index, self.began = index, began


POLICY = HedgePolicy(budget_floor=0, floor_s=0.0)


def pace_of(latencies, size=4, policy=POLICY):
    pace = Pace(size, policy)
    for now, latency_s in enumerate(latencies):
        pace.answered(now % size, latency_s, float(now))
    return pace


def table(pace, calls=1000, policy=POLICY, flights=()):
    flights_ = Flights(pace, policy)
    flights_.calls = calls
    for flight in flights:
        flights_.add(flight)
    return flights_


def test_nothing_is_late_before_enough_answers():
    assert pace_of([1.0] * (ENOUGH - 1)).overdue_s is None
    assert pace_of([1.0] * ENOUGH).overdue_s == 1.5


def test_the_slowest_hundredth_does_not_move_the_threshold():
    assert pace_of([1.0] * 99 + [100.0] + [1.0] * 99 + [100.0]).overdue_s == 1.5


def test_an_overdue_attempt_is_named_once():
    flights = table(pace_of([1.0] * 64), flights=[Flight(0, 10.0)])
    assert flights.next_due() == 11.5
    assert flights.overdue(11.4) == []
    assert [f.index for f in flights.overdue(11.5)] == [0]
    assert flights.overdue(99.0) == []
    assert flights.next_due() is None


def test_the_budget_is_a_share_of_all_calls():
    flights = table(pace_of([1.0] * 64), calls=100, flights=[Flight(0, 0.0) for _ in range(10)])
    assert len(flights.overdue(50.0)) == 2
    assert flights.hedges == 2


def test_the_floor_is_never_undercut():
    pace = pace_of([0.001] * 64, policy=HedgePolicy(floor_s=0.05))
    assert pace.overdue_s == 0.05


def test_silence_is_seen_where_an_endpoint_answered_nobody_since():
    pace = pace_of([1.0] * 64)
    hung, busy = Flight(0, 70.0), Flight(1, 70.0)
    flights = table(pace, calls=0, flights=[hung, busy])
    assert flights.overdue(72.0) == []
    pace.answered(1, 1.0, 75.0)
    assert flights.silent(75.9) == []
    assert flights.silent(76.0) == [hung]


def test_an_ended_attempt_is_forgotten_at_every_stage():
    flights = table(pace_of([1.0] * 64), calls=0, flights=[first := Flight(0, 0.0), second := Flight(0, 0.0)])
    flights.remove(first)
    flights.overdue(2.0)
    flights.remove(second)
    assert len(flights) == 0
    assert flights.silent(99.0) == []


def test_the_slowest_attempts_move_to_the_fastest_idle_endpoints():
    pace = Pace(4, POLICY)
    for _ in range(32):
        for index, latency_s in enumerate((1.0, 2.0, 10.0, 10.0)):
            pace.answered(index, latency_s, 0.0)
    slow, slower, quick = Flight(2, 8.0), Flight(3, 9.0), Flight(0, 9.5)
    flights = table(pace, flights=[slow, slower, quick])
    pairs = flights.movable(10.0, lambda: [1, 0], lambda flight, index: True)
    assert pairs == [(slower, 0), (slow, 1)]
    assert flights.movable(10.0, lambda: [1, 0], lambda flight, index: True) == []


def test_no_move_without_a_clear_gain_or_beyond_the_share():
    pace = Pace(2, POLICY)
    for _ in range(32):
        pace.answered(0, 1.0, 0.0)
        pace.answered(1, 1.4, 0.0)
    assert table(pace, flights=[Flight(1, 0.0)]).movable(0.1, lambda: [0], lambda f, i: True) == []
    pace.answered(1, 500.0, 0.0)
    assert table(pace, calls=0, flights=[Flight(1, 0.0)]).movable(0.1, lambda: [0], lambda f, i: True) == []


def test_looking_for_moves_is_rationed():
    flights = table(pace_of([1.0] * 64))
    assert not flights.surveyed(10.0)
    assert flights.surveyed(10.2)
    assert not flights.surveyed(10.3)


def test_a_batch_that_nears_its_end_moves_whatever_would_be_done_earlier_elsewhere():
    pace = Pace(2, POLICY)
    for _ in range(32):
        pace.answered(0, 1.0, 0.0)
        pace.answered(1, 1.9, 0.0)
    pace.typical_s = 0.03
    flights = table(pace, flights=[Flight(1, -0.45)])
    flights.calls += 1
    assert flights.movable(0.0, lambda: [0], lambda f, i: True) == []
    assert len(flights.movable(EBB * pace.typical_s, lambda: [0], lambda f, i: True)) == 1


def test_an_attempt_that_found_no_place_is_named_again():
    pace = Pace(2, POLICY)
    for _ in range(32):
        pace.answered(0, 1.0, 0.0)
    slow = Flight(1, 0.0)
    flights = table(pace, flights=[slow])
    assert flights.movable(30.0, lambda: [0], lambda f, i: True) == [(slow, 0)]
    flights.add(slow)
    assert flights.movable(31.0, lambda: [0], lambda f, i: True) == [(slow, 0)]
