"""Who works on which macro-task."""

import math
import random

import pytest

from aurora_swarm.errors import AgentError, MemberLostError, TaskCancelledError, UsageError
from aurora_swarm.swarms.allotment import Allotment, Gift, Macro
from aurora_swarm.swarms.work import FINAL, TaskSpec, TaskState


def macro(name, *suits, after=(), priority=0.0):
    return Macro(TaskSpec(title=name, id=name, after=after, priority=priority), suits)


def test_each_goes_to_the_swarm_that_suits_it_best():
    allotment = Allotment([macro("1", "b"), macro("2", "a")], ["a", "b"])
    assert set(allotment.give(0)) == {Gift("1", "b"), Gift("2", "a")}


def test_higher_priority_goes_first():
    allotment = Allotment([macro("1"), macro("2", priority=1)], ["a"])
    assert allotment.give(0) == [Gift("2", "a")]
    allotment.done(Gift("2", "a"), 1)
    assert allotment.give(1) == [Gift("1", "a")]


def test_an_idle_swarm_that_suits_takes_what_a_busy_one_would_keep_waiting():
    allotment = Allotment([macro("1", "a"), macro("2", "a", "b"), macro("3", "a")], ["a", "b"])
    assert set(allotment.give(0)) == {Gift("1", "a"), Gift("2", "b")}
    allotment.done(Gift("2", "b"), 1)
    assert allotment.give(1) == []  # the third suits a alone


def test_the_one_that_was_given_least_is_taken():
    allotment = Allotment([macro(str(i)) for i in range(3)], ["a", "b"])
    allotment.give(0)
    allotment.done(Gift("0", "a"), 1)
    allotment.done(Gift("1", "b"), 1)
    assert allotment.give(1) == [Gift("2", "a")]


def test_what_failed_goes_to_another_and_then_has_failed():
    allotment = Allotment([macro("1", "a")], ["a", "b"])
    error = AgentError("no")
    assert allotment.give(0) == [Gift("1", "a")]
    allotment.failed(Gift("1", "a"), error, 1)
    assert allotment.give(1) == [Gift("1", "b")]
    allotment.failed(Gift("1", "b"), error, 2)
    assert allotment.give(2) == []
    task = allotment.tasks["1"]
    assert (task.state, task.error, task.tried) == (TaskState.FAILED, error, ["a", "b"])


def test_a_lost_swarm_is_given_nothing_more():
    allotment = Allotment([macro("1", "a"), macro("2", "a")], ["a", "b"])
    allotment.give(0)
    allotment.failed(Gift("1", "a"), MemberLostError("gone"), 1)
    assert allotment.members == ["b"]
    assert allotment.give(1) == [Gift("1", "b")]
    allotment.done(Gift("1", "b"), 2)
    assert allotment.give(2) == [Gift("2", "b")]


def test_nothing_hangs_when_all_are_lost():
    allotment = Allotment([macro("1"), macro("2", after=("1",))], ["a"])
    allotment.give(0)
    allotment.failed(Gift("1", "a"), MemberLostError("gone"), 1)
    assert allotment.give(1) == []
    assert allotment.give(1) == []
    assert {task.state for task in allotment.tasks.values()} <= FINAL
    assert isinstance(allotment.tasks["2"].error, TaskCancelledError)


def test_a_task_waits_for_what_it_builds_on_and_one_answer_is_enough():
    allotment = Allotment([macro("1", "a"), macro("2", "b"), macro("3", after=("1", "2"))], ["a", "b"], max_attempts=1)
    allotment.give(0)
    allotment.failed(Gift("1", "a"), AgentError("no"), 1)
    assert allotment.give(1) == []
    allotment.done(Gift("2", "b"), 2)
    assert [gift.task for gift in allotment.give(2)] == ["3"]


def test_a_straggler_is_worked_on_by_an_idle_swarm_too_and_the_first_answer_counts():
    allotment = Allotment([macro("1"), macro("2")], ["a", "b"], patience=3)
    allotment.give(0)
    allotment.done(Gift("1", "a"), 10)
    assert allotment.give(10) == []
    assert allotment.wake_in(10) == 20
    assert allotment.wake_in(30) > 0
    assert allotment.give(30) == [Gift("2", "a")]
    assert allotment.wake_in(30) is None
    assert allotment.done(Gift("2", "a"), 35) == ["b"]
    allotment.dropped(Gift("2", "b"))
    assert allotment.tasks["2"].winner == "a"
    assert allotment.give(40) == []


def test_a_straggler_that_fails_beside_its_helper_does_not_fail_the_task():
    allotment = Allotment([macro("1"), macro("2")], ["a", "b"], patience=1)
    allotment.give(0)
    allotment.done(Gift("1", "a"), 10)
    allotment.give(20)
    allotment.failed(Gift("2", "b"), AgentError("no"), 21)
    assert allotment.tasks["2"].state is TaskState.RUNNING
    assert allotment.done(Gift("2", "a"), 22) == []
    assert allotment.tasks["2"].state is TaskState.DONE


def test_endless_patience_waits():
    allotment = Allotment([macro("1"), macro("2")], ["a", "b"], patience=math.inf)
    allotment.give(0)
    allotment.done(Gift("1", "a"), 0)
    assert allotment.wake_in(1) is None
    assert allotment.give(1e9) == []


@pytest.mark.parametrize("tasks", [[macro("1"), macro("1")], [macro("1", after=("2",)), macro("2")]])
def test_plans_that_cannot_be_worked_on_are_refused(tasks):
    with pytest.raises(UsageError, match="macro-task '1'"):
        Allotment(tasks, ["a"])


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_every_task_ends_once_and_no_swarm_has_two(seed):
    dice = random.Random(seed)
    names = [f"m{i}" for i in range(dice.randint(1, 5))]
    tasks = []
    for number in range(dice.randint(1, 12)):
        before = tuple(str(each) for each in range(number) if dice.random() < 0.2)
        suits = dice.sample(names, dice.randint(0, len(names)))
        tasks.append(macro(str(number), *suits, after=before, priority=dice.random()))
    allotment = Allotment(tasks, names, max_attempts=dice.randint(1, 4), patience=dice.choice([1, 3]))
    now, running, dropped = 0.0, [], []
    for _ in range(500):
        running += allotment.give(now)
        assert len({gift.member for gift in running}) == len(running)
        if not running:
            break
        now += dice.random() * 5
        gift = running.pop(dice.randrange(len(running)))
        if gift in dropped:
            allotment.dropped(gift)
        elif dice.random() < 0.6:
            dropped += [Gift(gift.task, name) for name in allotment.done(gift, now)]
        else:
            error = MemberLostError("gone") if dice.random() < 0.3 else AgentError("no")
            allotment.failed(gift, error, now)
    assert not running
    assert allotment.n_open == 0
    for task in tasks:
        assert len(task.tried) == len(set(task.tried))
        assert [moment.state for moment in task.history if moment.state in FINAL] == [task.state]
        assert (task.error is None) or task.state is not TaskState.DONE or len(task.tried) > 1
