"""Who has which fault, and when."""

from __future__ import annotations

import pytest

from aurora_swarm.errors import UsageError
from aurora_swarm.testing.fleet import Fault, place_faults


def test_a_share_of_the_fleet_has_a_fault_and_the_seed_says_who():
    placed = place_faults(100, [Fault("refuse", share=0.2), Fault("gray", share=0.1)], seed=3)
    kinds = [[fault.kind for fault in faults] for faults in placed.values()]
    assert kinds.count(["refuse"]) == 20
    assert kinds.count(["gray"]) == 10
    assert placed == place_faults(100, [Fault("refuse", share=0.2), Fault("gray", share=0.1)], seed=3)
    assert placed != place_faults(100, [Fault("refuse", share=0.2), Fault("gray", share=0.1)], seed=4)


def test_a_fault_without_a_share_is_everybodys():
    assert len(place_faults(10, [Fault("status", rate=0.1), Fault("refuse", share=0.5)])) == 10


def test_servers_can_be_named():
    reset = Fault("reset")
    assert place_faults(3, {1: reset, 2: [reset, reset]}) == {1: (reset,), 2: (reset, reset)}
    with pytest.raises(UsageError, match="no server 3"):
        place_faults(3, {3: reset})


def test_more_faults_than_servers_overlap():
    placed = place_faults(10, [Fault("refuse", share=0.6), Fault("gray", share=0.6)])
    assert sum(len(faults) for faults in placed.values()) == 12


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "nonsense"},
        {"kind": "reset", "rate": 1.5},
        {"kind": "reset", "share": -0.1},
        {"kind": "drip", "pause_s": 0.0},
        {"kind": "status", "status": 99},
        {"kind": "cut", "at": -1},
        {"kind": "slow", "factor": -2.0},
    ],
)
def test_faults_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        Fault(**wrong)


def test_a_fault_has_its_time():
    fault = Fault("reset", after_s=1, until_s=2)
    assert [fault.active(age) for age in (0.9, 1.0, 1.9, 2.0)] == [False, True, True, False]


def test_flapping_goes_up_and_down():
    fault = Fault("flap", period_s=2.0)
    assert [fault.closed(age) for age in (0.0, 0.9, 1.0, 1.9, 2.0, 3.5)] == [False, False, True, True, False, True]
    assert fault.next_change(0.2) == 1.0
    assert fault.next_change(1.0) == 2.0


def test_a_refusal_changes_when_it_begins_and_ends():
    fault = Fault("refuse", after_s=1, until_s=3)
    assert [fault.next_change(age) for age in (0.0, 1.5, 3.0)] == [1, 3, None]
    assert [fault.closed(age) for age in (0.0, 1.5, 3.0)] == [False, True, False]
