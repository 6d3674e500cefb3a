"""A thousand bad days of a small fleet, each drawn from its seed; what must always hold, holds on all of them."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from aurora_swarm.testing.simulation import KINDS, Scenario, simulate

CHUNK = 50
CHAOS_SEEDS = int(os.environ.get("AURORA_CHAOS_SEEDS", "20000"))


def outcome_of(seeds):
    """Runs the seeds; every one that fails is told with the command that replays it."""
    injected, asked, answered, cancelled, stories = Counter(), 0, 0, 0, []
    for seed in seeds:
        report = simulate(Scenario.from_seed(seed))
        injected += report.injected
        asked += sum(len(ended.plan.prompts) for ended in report.ended)
        answered += report.answered
        cancelled += sum(ended.cancelled for ended in report.ended)
        if report.violations:
            stories.append(report.story(events=20))
    assert not stories, f"{len(stories)} of {len(seeds)} seeds failed; the first:\n{stories[0]}"
    return injected, asked, answered, cancelled


@pytest.mark.parametrize("first", range(0, 1000, CHUNK))
def test_what_must_hold_holds_on_every_seed(first):
    injected, asked, answered, cancelled = outcome_of(range(first, first + CHUNK))
    assert answered >= asked / 2
    assert injected.total() >= asked / 10
    assert cancelled > 0


def test_every_kind_of_fault_is_met():
    injected, *_ = outcome_of(range(100))
    assert set(injected) == set(KINDS)


@pytest.mark.parametrize("seed", range(5, 1000, 40))
def test_the_same_seed_is_the_same_run(seed):
    first, again = (simulate(Scenario.from_seed(seed)) for _ in range(2))
    assert first.events == again.events
    assert first.digest == again.digest


def test_a_seed_replays_in_another_process():
    command = [sys.executable, "-m", "aurora_swarm.testing.simulation", "--seed", "23"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    report = simulate(Scenario.from_seed(23))
    assert told.returncode == 0
    assert f"events {report.digest}" in told.stdout
    assert str(report.events[len(report.events) // 2]) in told.stdout


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_what_must_hold_holds_on_many_more_seeds():
    outcome_of(range(1000, 1000 + CHAOS_SEEDS))
