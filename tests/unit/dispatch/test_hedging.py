"""Rivals go to attempts that are late, hung or better off elsewhere, within their budgets."""

from aurora_swarm.dispatch.hedging import EBB, ENOUGH, Flights, Pace
from aurora_swarm.values.policy import HedgePolicy


class Flight:
    def __init__(self, index, began, *, patient=False):
        self.index, self.began, self.patient = index, began, patient


POLICY = HedgePolicy(budget_floor=0, floor_s=0.0)


def pace_of(latencies, size=4, policy=POLICY):
    pace = Pace(size, policy)
    for now, latency_s in enumerate(latencies):
        pace.answered(now % size, latency_s, float(now))
    return pace


def table(pace, calls=1000, policy=POLICY, flights=(), loads=(1, 1, 1, 1)):
    flights_ = Flights(pace, policy, loads)
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
    assert flights.next_due(11.2) == 11.5
    assert flights.overdue(11.4) == []
    assert [f.index for f in flights.overdue(11.5)] == [0]
    assert flights.overdue(99.0) == []
    assert flights.next_due(99.0) is None


def test_an_endpoint_that_answers_none_of_several_calls_is_suspect_earlier():
    pace = pace_of([1.0] * 64)
    alone, crowd = Flight(0, 70.0), [Flight(1, 70.0), Flight(1, 70.0)]
    flights = table(pace, flights=[alone, *crowd], loads=(1, 2, 1, 1))
    assert flights.next_due(70.0) == 71.1
    assert flights.overdue(71.05) == []
    assert flights.overdue(71.1) == crowd
    assert flights.overdue(71.4) == []
    assert flights.overdue(71.5) == [alone]


def test_an_endpoint_that_answers_others_is_not_suspect():
    pace = pace_of([1.0] * 64)
    flights = table(pace, flights=[Flight(1, 70.0), Flight(1, 70.0)], loads=(1, 2, 1, 1))
    pace.answered(1, 1.0, 70.5)
    assert flights.overdue(71.2) == []


def test_the_last_of_a_wave_are_late_earlier_while_slots_are_free():
    pace = pace_of([1.0] * 64)
    last = Flight(0, 70.0)
    assert table(pace, flights=[last]).overdue(71.1, idle=False) == []
    assert table(pace, flights=[last]).overdue(71.1, idle=True) == [last]
    many = [Flight(n % 4, 70.0) for n in range(4)]
    assert table(pace, flights=many).overdue(71.1, idle=True) == []


def test_what_shares_a_prefix_with_others_is_never_suspect():
    flights = table(pace_of([1.0] * 64), flights=[Flight(1, 70.0, patient=True)] * 2, loads=(1, 2, 1, 1))
    assert flights.overdue(71.2, idle=True) == []
    assert len(flights.overdue(71.5)) == 1


def test_where_calls_go_on_coming_no_attempt_is_the_last():
    flights = table(pace_of([1.0] * 64), flights=[Flight(0, 70.0), Flight(1, 70.9)])
    assert flights.overdue(71.1, idle=True) == []


def test_an_endpoint_is_slow_by_its_own_answers_until_it_is_forgotten():
    pace = pace_of([1.0, 1.0, 1.0, 10.0] * 64)
    assert [pace.is_slow(index) for index in range(4)] == [False, False, False, True]
    pace.forget(3)
    assert not pace.is_slow(3)


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
    pairs = flights.movable(10.0, lambda: [(1, 1), (0, 1)], lambda flight, index: True)
    assert pairs == [(slower, 0), (slow, 1)]
    assert flights.movable(10.0, lambda: [(1, 1), (0, 1)], lambda flight, index: True) == []


def test_no_move_without_a_clear_gain_or_beyond_the_share():
    pace = Pace(2, POLICY)
    for _ in range(32):
        pace.answered(0, 1.0, 0.0)
        pace.answered(1, 1.4, 0.0)
    assert table(pace, flights=[Flight(1, 0.0)]).movable(0.1, lambda: [(0, 1)], lambda f, i: True) == []
    pace.answered(1, 500.0, 0.0)
    assert table(pace, calls=0, flights=[Flight(1, 0.0)]).movable(0.1, lambda: [(0, 1)], lambda f, i: True) == []


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
    assert flights.movable(0.0, lambda: [(0, 1)], lambda f, i: True) == []
    assert len(flights.movable(EBB * pace.typical_s, lambda: [(0, 1)], lambda f, i: True)) == 1


def test_an_attempt_that_found_no_place_is_named_again():
    pace = Pace(2, POLICY)
    for _ in range(32):
        pace.answered(0, 1.0, 0.0)
    slow = Flight(1, 0.0)
    flights = table(pace, flights=[slow])
    assert flights.movable(30.0, lambda: [(0, 1)], lambda f, i: True) == [(slow, 0)]
    flights.add(slow)
    assert flights.movable(31.0, lambda: [(0, 1)], lambda f, i: True) == [(slow, 0)]
