"""When to ask for whose prefix, told by an invented clock."""

import random

import pytest

from aurora_swarm.batch.kvflow import EARLY, LEAST_SAMPLES, KVFlowAdvisor


def taught(seconds=10.0, tool="search", n=LEAST_SAMPLES, **options):
    advisor = KVFlowAdvisor(**options)
    for number in range(n):
        advisor.begins(f"old{number}", tool, 0.0)
        advisor.ends(f"old{number}", tool, seconds)
    return advisor


def test_nothing_is_advised_before_enough_is_known():
    advisor = taught(n=LEAST_SAMPLES - 1)
    advisor.begins("a", "search", 100.0)
    assert advisor.next_due() is None


def test_an_agent_is_due_shortly_before_its_tool_should_return():
    advisor = taught(10.0)
    advisor.begins("a", "search", 100.0)
    at = advisor.next_due()
    assert 109.0 < at < 110.0
    assert advisor.due(at - 0.001) == []
    assert advisor.due(at) == ["a"]


def test_an_agent_is_advised_on_once_per_wait():
    advisor = taught()
    advisor.begins("a", "search", 0.0)
    assert advisor.due(100.0) == ["a"]
    assert advisor.due(200.0) == []
    advisor.begins("a", "search", 200.0)  # a further call of the same wait
    assert advisor.due(300.0) == []
    advisor.ends("a", "search", 300.0)
    advisor.ends("a", "search", 300.0)
    advisor.begins("a", "search", 400.0)
    assert advisor.due(500.0) == ["a"]


def test_whoever_is_back_is_not_advised_on():
    advisor = taught()
    advisor.begins("a", "search", 0.0)
    advisor.begins("b", "search", 0.0)
    advisor.ends("a", "search", 3.0)
    advisor.forget("b")
    assert advisor.next_due() is None
    assert not advisor.waits("a")
    assert not advisor.waits("b")


def test_a_wait_for_several_tools_lasts_as_long_as_the_slowest():
    advisor = taught(10.0)
    for number in range(LEAST_SAMPLES):
        advisor.begins(f"x{number}", "read", 0.0)
        advisor.ends(f"x{number}", "read", 2.0)
    advisor.begins("a", "search", 0.0)
    advisor.begins("a", "read", 0.0)
    assert advisor.next_due() > 9.0
    advisor.ends("a", "read", 2.0)
    assert advisor.waits("a")


def test_a_wait_with_a_tool_that_nobody_knows_is_left_alone():
    advisor = taught(10.0)
    advisor.begins("a", "new", 0.0)
    advisor.begins("a", "search", 0.0)
    assert advisor.next_due() is None


def test_short_waits_are_left_alone():
    advisor = taught(0.2)
    advisor.begins("a", "search", 0.0)
    assert advisor.next_due() is None


def test_those_who_come_back_first_are_due_first():
    advisor = taught(10.0)
    for number, began in enumerate([5.0, 1.0, 3.0]):
        advisor.begins(f"a{number}", "search", began)
    assert advisor.due(100.0) == ["a1", "a2", "a0"]


def test_a_prefetch_that_lasts_longer_is_made_earlier():
    slow = taught(10.0)
    for _ in range(50):
        slow.took(2.0)
    slow.begins("a", "search", 0.0)
    assert slow.next_due() == pytest.approx(8.0, abs=0.1)


def test_answers_that_nobody_waits_for_are_passed_over():
    advisor = KVFlowAdvisor()
    advisor.ends("nobody", "search", 1.0)
    advisor.begins("a", "search", 1.0)
    advisor.ends("a", "another", 2.0)
    assert advisor.waits("a")


@pytest.mark.parametrize("seed", range(5))
def test_most_prefetches_come_before_their_agent_does_and_not_long_before(seed):
    dice = random.Random(seed)
    advisor = taught(5.0, n=0)
    events, early, late, gaps = [], 0, 0, []
    for number in range(2000):
        began = number * 0.1
        events.append((began, 0, f"a{number}"))
        events.append((began + dice.lognormvariate(1.6, 0.3), 1, f"a{number}"))
    hinted = {}
    for now, kind, agent in sorted(events):
        hinted.update(dict.fromkeys(advisor.due(now), now))
        if kind == 0:
            advisor.begins(agent, "search", now)
            continue
        advisor.ends(agent, "search", now)
        if agent in hinted:
            early += 1
            gaps.append(now - hinted.pop(agent))
        else:
            late += 1
    assert early / (early + late) > 1 - EARLY - 0.05
    assert sorted(gaps)[len(gaps) // 2] < 2.5
    assert hinted == {}
    assert advisor.next_due() is None
