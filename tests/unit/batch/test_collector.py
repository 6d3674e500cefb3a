"""While batches run, the collector looks at what they make, and at nothing else."""

from __future__ import annotations

import gc
import weakref

from aurora_swarm.batch.collector import NewObjectsOnly, patience


class Knot:
    """Something that only the collector can take away."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_made_during_a_run_is_collected_and_what_was_there_after_it() -> None:
    runs, before = NewObjectsOnly(), Knot()
    gone_before = weakref.ref(before)
    with runs.during():
        assert gc.get_freeze_count() > 1000
        gone = weakref.ref(Knot())
        del before
        gc.collect()
        assert gone() is None
        assert gone_before() is not None
    assert gc.get_freeze_count() < 1000
    gc.collect()
    assert gone_before() is None


def test_runs_may_overlap() -> None:
    runs = NewObjectsOnly()
    first, second = runs.during(), runs.during()
    with first:
        second.__enter__()
    assert gc.get_freeze_count() > 1000
    second.__exit__(None, None, None)
    assert gc.get_freeze_count() < 1000


def test_who_told_the_collector_so_already_is_left_alone() -> None:
    gc.freeze()
    try:
        with NewObjectsOnly().during():
            pass
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()


def test_the_more_agents_are_under_way_the_less_often_the_collector_looks() -> None:
    runs, usual = NewObjectsOnly(), gc.get_threshold()
    with runs.during(2_000):
        assert gc.get_threshold() == patience(2_000)
        with runs.during(3_000):
            assert gc.get_threshold() == patience(5_000)
        assert gc.get_threshold() == patience(2_000)
    assert gc.get_threshold() == usual
    assert patience(10)[0] < patience(2_000)[0] < patience(5_000)[0] < patience(10**9)[0] == patience(10**12)[0]


def test_a_threshold_that_somebody_sets_meanwhile_stays() -> None:
    usual = gc.get_threshold()
    with NewObjectsOnly().during(10):
        gc.set_threshold(1_234)
    try:
        assert gc.get_threshold()[0] == 1_234
    finally:
        gc.set_threshold(*usual)
