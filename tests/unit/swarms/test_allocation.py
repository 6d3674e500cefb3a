"""Who gets which task, and by what record."""

import pytest

from aurora_swarm.errors import AgentTimeoutError
from aurora_swarm.swarms.allocation import MOST_REST_S, TRIALS, Roster, assign
from aurora_swarm.swarms.board import Board
from aurora_swarm.swarms.posts import Post
from aurora_swarm.swarms.ready import AGEING_S, ReadyQueue
from aurora_swarm.swarms.standing import MOST_SKILLS, Pace, Standing
from aurora_swarm.swarms.work import TaskSpec, TaskState
from aurora_swarm.values.outcome import AgentResult

NONE = frozenset()
LAW = frozenset({"law"})
ANSWER = AgentResult(index=0, key="", ok=True, output="yes", error=None, text="yes")


class Crew:
    """A board with a crew that is given, and a clock that is turned by hand."""

    def __init__(self, *workers, **more):
        self.now = 0.0
        self.board = Board()
        self.roster = Roster(len(workers) or 3, None if workers else self.hire, stays=bool(workers), **more)
        for number, skills in enumerate(workers):
            self.roster.join(f"w{number}", skills, self.now)
        self.leases = {}

    def hire(self):
        return f"h{len(self.roster.posts)}", NONE

    def add(self, *tasks, skills=(), priority=0.0):
        self.board.add([TaskSpec(id=t, title=t, skills=tuple(skills), priority=priority) for t in tasks], self.now)

    def give_out(self):
        self.roster.wake(self.now)
        starts = {start.task: start for start in assign(self.board, self.roster, self.now, self.now, 10_000)}
        self.leases |= {task: start.lease for task, start in starts.items()}
        self.board.validate()
        self.roster.validate()
        return {task: start.worker for task, start in starts.items()}

    def end(self, task, *, ok=True, seconds=1.0):
        worker = self.board.cards[task].worker
        self.now += seconds
        self.roster.note(worker, self.board.cards[task].skills, seconds, ok=ok)
        if ok:
            self.board.done(self.leases[task], ANSWER, self.now)
        else:
            self.board.failed(self.leases[task], AgentTimeoutError("late"), self.now)
        self.roster.free(worker, self.now)

    def tried(self, worker, *, ok=True, pace=1.0, skills=NONE, times=TRIALS):
        """A worker with a past."""
        for _ in range(times):
            self.roster.posts[worker].standing.note(skills, ok=ok, pace=pace)
        # It is free anew, so that it stands where its record puts it.
        self.roster.pause(worker, self.now)
        self.roster.resume(worker, self.now)


def test_the_faster_and_the_luckier_go_first():
    crew = Crew(NONE, NONE, NONE)
    crew.tried("w0", pace=3.0)
    crew.tried("w1", pace=1.0)
    crew.tried("w2", pace=1.0, ok=False)
    crew.add("a", "b", "c")
    assert crew.give_out() == {"a": "w1", "b": "w2", "c": "w0"}


def test_a_record_at_the_skill_counts_more_than_one_at_all():
    crew = Crew(NONE, NONE)
    crew.tried("w0", pace=0.1, skills=frozenset({"art"}), times=9)
    crew.tried("w0", pace=9.0, skills=LAW, times=2)
    crew.tried("w1", pace=1.0, skills=LAW)
    crew.tried("w1", pace=2.0, skills=frozenset({"art"}))
    crew.add("law", skills=LAW)
    crew.add("art", skills={"art"})
    assert crew.give_out() == {"law": "w1", "art": "w0"}


def test_a_task_waits_for_a_specialist_and_holds_up_nobody():
    crew = Crew(LAW, NONE)
    crew.add("l1", "l2", "l3", skills=LAW)
    crew.add("any")
    assert crew.give_out() == {"l1": "w0", "any": "w1"}
    crew.end("any")
    assert crew.give_out() == {}
    crew.end("l1")
    assert crew.give_out() == {"l2": "w0"}


@pytest.mark.parametrize("what", ["pause", "leave"])
def test_a_task_does_not_wait_for_a_specialist_who_is_not_there(what):
    crew = Crew(LAW, NONE)
    crew.add("l1", "l2", "l3", skills=LAW)
    assert crew.give_out() == {"l1": "w0"}
    getattr(crew.roster, what)("w0", crew.now)
    assert crew.give_out() == {"l2": "w1"}
    crew.end("l2")
    assert crew.give_out() == {"l3": "w1"}


def test_where_nobody_has_all_skills_who_has_more_of_them_goes_first():
    crew = Crew(NONE, LAW)
    crew.add("both", skills={"law", "art"})
    assert crew.give_out() == {"both": "w1"}


def test_a_task_goes_to_somebody_who_has_not_had_it():
    crew = Crew(NONE, NONE)
    crew.add("a", "b")
    first = crew.give_out()
    crew.end("a", ok=False)
    crew.now += MOST_REST_S
    assert crew.give_out() == {}, "the other one is busy, not gone"
    crew.end("b")
    assert crew.give_out() == {"a": first["b"]}


def test_a_task_goes_to_who_has_had_it_where_there_is_nobody_else():
    crew = Crew(NONE)
    crew.add("a")
    for _ in range(3):
        assert crew.give_out() == {"a": "w0"}
        crew.end("a", ok=False)
    assert crew.board.cards["a"].state is TaskState.FAILED


def test_who_fails_rests_longer_each_time_in_a_row():
    crew = Crew(NONE, NONE)
    rests = []
    for number in range(8):
        crew.add(f"busy{number}" if number == 0 else f"t{number}", priority=9 if number == 0 else 0)
        crew.give_out()
        task = f"t{number}"
        if number == 0:
            continue
        crew.end(task, ok=False)
        crew.board.cancel(task, crew.now)
        worker = crew.roster.posts[crew.board.cards[task].worker]
        rests.append(worker.rests_until - crew.now)
        crew.now += 100.0
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_if_all_would_rest_the_first_to_wake_works():
    crew = Crew(NONE)
    crew.add("a")
    crew.give_out()
    crew.end("a", ok=False)
    assert crew.roster.next_wake() == crew.now + 1.0
    assert crew.give_out() == {"a": "w0"}


def test_who_is_far_slower_rests():
    crew = Crew(NONE, NONE)
    rests = {}
    for number in range(6):
        crew.add(f"x{number}", f"y{number}")
        got = crew.give_out()
        slow, fast = sorted(got, key=lambda task: got[task])
        crew.end(fast, seconds=1.0)
        crew.end(slow, seconds=10.0)
        rests[got[slow]] = crew.roster.posts[got[slow]].rests_until - crew.now
        rests[got[fast]] = crew.roster.posts[got[fast]].rests_until - crew.now
        crew.now += 50.0
    assert rests["w0"] > 5.0
    assert rests["w1"] <= 0.0


def test_newcomers_go_first_and_equals_take_turns():
    crew = Crew()
    crew.roster.target = 1
    for number in range(4):
        crew.add(f"t{number}")
        crew.give_out()
        crew.end(f"t{number}")
    crew.roster.join("new", NONE, crew.now)
    crew.add("a")
    crew.roster.target = 2
    assert crew.give_out() == {"a": "new"}


def test_a_bad_record_is_forgiven_some_time():
    crew = Crew(NONE, NONE)
    crew.tried("w0", pace=3.0)
    crew.tried("w1")
    used = []
    for number in range(20):
        crew.add(f"t{number}")
        used += crew.give_out().values()
        crew.end(f"t{number}", seconds=10.0)
    assert used[0] == "w1"
    assert 1 <= used.count("w0") <= 6


def test_workers_are_hired_up_to_the_target_and_not_for_what_they_may_not_have():
    crew = Crew()
    crew.roster.join("lawyer", LAW, 0.0)
    crew.add("l1", "l2", "l3", skills=LAW)
    crew.add("a", "b", "c")
    assert crew.give_out() == {"l1": "lawyer", "a": "h1", "b": "h2"}
    assert crew.roster.size == 3


def test_nobody_is_hired_in_vain():
    crew = Crew()
    crew.roster.join("lawyer", LAW, 0.0)
    crew.roster.target = 50
    crew.add("l1", "l2", "l3", skills=LAW)
    assert crew.give_out() == {"l1": "lawyer"}
    assert crew.roster.size == 2, "one, to see what is hired here"


def test_among_many_who_have_had_it_the_one_who_has_not_is_found():
    crew = Crew(*[NONE] * 20)
    for number in range(20):
        crew.tried(f"w{number}", pace=1.0 + number)
    assert crew.roster.choose(NONE, [f"w{number}" for number in range(19)], 0.0).id == "w19"


def test_only_so_many_of_a_given_crew_work_at_a_time():
    crew = Crew(NONE, NONE, NONE)
    crew.roster.scale(2, 0.0)
    crew.add("a", "b", "c")
    assert len(crew.give_out()) == 2
    crew.roster.scale(3, 0.0)
    assert len(crew.give_out()) == 1
    assert crew.roster.counts == {"working": 3, "idle": 0}


def test_old_entries_are_forgotten():
    crew = Crew(NONE, NONE)
    for number in range(300):
        crew.add(f"t{number}")
        crew.give_out()
        crew.end(f"t{number}")
    assert len(crew.roster._free[NONE][""]._heap) < 100


def test_the_queue_goes_by_priority_and_by_waiting():
    queue = ReadyQueue()
    queue.put("old", NONE, 0.0, 0.0)
    queue.put("new", NONE, 1.0, AGEING_S * 0.9)
    queue.put("newer", NONE, 1.0, AGEING_S * 1.1)
    queue.put("gone", NONE, 9.0, 0.0)
    queue.remove("gone")
    assert [queue.pop(), queue.pop(), queue.pop(), queue.pop()] == ["new", "old", "newer", None]


def test_a_task_that_left_the_queue_and_came_back_is_there_once():
    queue = ReadyQueue()
    queue.put("a", NONE, 0.0, 0.0)
    queue.remove("a")
    queue.put("b", NONE, 0.0, 3.0)
    queue.put("a", NONE, 0.0, 5.0)
    assert queue.pop() == "b"
    assert queue.pop() == "a"
    queue.remove("a")
    assert queue.pop() is None


def test_pace_is_told_beside_tasks_of_the_same_kind():
    pace = Pace()
    assert pace.beside(LAW, 9.0) is None
    pace.note(LAW, 10.0)
    pace.note(NONE, 1.0)
    assert pace.beside(LAW, 20.0) == 2.0
    assert pace.beside(NONE, 20.0) == 20.0


def test_a_standing_keeps_the_latest_skills_only():
    standing = Standing()
    for number in range(40):
        standing.note({f"s{number}"}, ok=True, pace=1.0)
    assert len(standing.skills) == MOST_SKILLS
    assert "s39" in standing.skills
    assert standing.general.given == 40


def test_a_post_is_ordered_by_nothing_of_its_own():
    crew = Crew(NONE, NONE)
    chosen = crew.roster.choose(NONE, (), 0.0)
    assert isinstance(chosen, Post)
    assert chosen.id == "w0"
