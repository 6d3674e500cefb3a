"""The task board with its crew: whatever is done to it in whatever order, no task is lost, is with two, or ends twice.

The model beside it knows only what came in and what commands came out.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aurora_swarm.errors import AgentTimeoutError, BudgetError, TaskCancelledError, UsageError, WorkerLostError
from aurora_swarm.swarms.allocation import Roster, assign
from aurora_swarm.swarms.board import Board
from aurora_swarm.swarms.cards import Ended, Stop
from aurora_swarm.swarms.work import FINAL, TaskSpec, TaskState
from aurora_swarm.values.outcome import AgentResult

SKILLS = st.sets(st.sampled_from(["law", "art"]), max_size=2)
CREW = st.one_of(st.just([]), st.lists(SKILLS, min_size=2, max_size=4))
PLACE = st.integers(0, 1000)
ANSWER = AgentResult(index=0, key="", ok=True, output="yes", error=None, text="yes")


class BoardMachine(RuleBasedStateMachine):
    @initialize(attempts=st.integers(1, 4), nodes=st.integers(1, 5), given=CREW)
    def start(self, attempts, nodes, given):
        self.now = 0.0
        self.max_attempts = attempts
        self.board = Board(max_attempts=attempts)
        self.roster = Roster(len(given) or nodes, None if given else self.hire, stays=bool(given))
        for number, skills in enumerate(given):
            self.roster.join(f"given{number}", frozenset(skills), self.now)
        self.hired = 0
        self.held = {}  # lease: (task, worker)
        self.stale = {}
        self.finals = {}
        self.closed = False

    def hire(self):
        self.hired += 1
        return f"hired{self.hired}", frozenset()

    # -- what comes out ----------------------------------------------------------------------------------------

    def carry_out(self, commands):
        for command in commands:
            if isinstance(command, Stop):
                self.stale[command.lease] = self.held.pop(command.lease)
            else:
                assert isinstance(command, Ended)
                assert command.task not in self.finals, "final twice"
                self.finals[command.task] = self.board.cards[command.task].state

    def pick(self, things, place):
        things = list(things)
        return things[place % len(things)] if things else None

    # -- tasks -------------------------------------------------------------------------------------------------

    @rule(places=st.lists(PLACE, max_size=2), skills=SKILLS, priority=st.integers(-2, 2), times=st.integers(1, 3))
    def add(self, places, skills, priority, times):
        after = tuple(self.pick(self.board.cards, place) for place in places) if self.board.cards else ()
        for _ in range(times):
            task = f"t{len(self.board.cards)}"
            spec = TaskSpec(id=task, title=task, after=after, skills=tuple(skills), priority=priority)
            self.carry_out(self.board.add([spec], self.now))

    @rule(size=st.integers(2, 4), edges=st.lists(st.tuples(PLACE, PLACE), max_size=4))
    def add_together(self, size, edges):
        first = len(self.board.cards)
        after = {number: set() for number in range(size)}
        for one, other in edges:
            after[one % size].add(other % size)
        specs = [
            TaskSpec(id=f"t{first + n}", title="", after=tuple(f"t{first + m}" for m in after[n])) for n in range(size)
        ]
        try:
            self.carry_out(self.board.add(specs, self.now))
        except UsageError:
            assert len(self.board.cards) == first, "all or none"
            assert edges

    @rule(seconds=st.floats(0.0, 20.0))
    def give_out(self, seconds):
        self.now += seconds
        self.roster.wake(self.now)
        for start in assign(self.board, self.roster, self.now, self.now, 10_000):
            card = self.board.cards[start.task]
            assert start.worker not in [worker for _, worker in self.held.values()], "one worker, two tasks"
            assert start.task not in [task for task, _ in self.held.values()], "one task, two workers"
            assert all(self.finals.get(task) is TaskState.DONE for task in card.after), "begun too early"
            assert not card.is_paused
            assert not self.closed
            self.held[start.lease] = (start.task, start.worker)
        if self.roster.counts["working"] < self.roster.target:
            free = [
                post for post in self.roster.posts.values() if post.state == "idle" and post.rests_until <= self.now
            ]
            for wanted in self.board.queue.aside():
                assert not any(wanted <= post.skills for post in free), "a specialist is free, and its task waits"

    def come_back(self, lease):
        _, worker = self.held.pop(lease)
        self.roster.note(worker, frozenset(), 1.0, ok=True)
        self.roster.free(worker, self.now)

    @precondition(lambda self: self.held)
    @rule(place=PLACE)
    def answer(self, place):
        lease = self.pick(self.held, place)
        task = self.held[lease][0]
        self.come_back(lease)
        commands = self.board.done(lease, ANSWER, self.now)
        assert Ended(task) in commands
        self.carry_out(commands)

    @precondition(lambda self: self.held)
    @rule(place=PLACE, is_final=st.booleans())
    def fail(self, place, is_final):
        lease = self.pick(self.held, place)
        task, worker = self.held.pop(lease)
        self.roster.note(worker, frozenset(), 1.0, ok=False)
        self.roster.free(worker, self.now)
        before = self.board.cards[task].attempts
        commands = self.board.failed(lease, AgentTimeoutError("late"), self.now, is_final=is_final)
        assert self.closed or (Ended(task) in commands) == (is_final or before >= self.max_attempts)
        self.carry_out(commands)

    @precondition(lambda self: self.held)
    @rule(place=PLACE)
    def lose(self, place):
        lease = self.pick(self.held, place)
        self.stale[lease] = self.held.pop(lease)
        self.carry_out(self.board.failed(lease, WorkerLostError("silent"), self.now))

    @precondition(lambda self: self.stale)
    @rule(place=PLACE, ok=st.booleans())
    def a_lost_worker_comes_back(self, place, ok):
        lease = self.pick(self.stale, place)
        _, worker = self.stale.pop(lease)
        if ok:
            assert self.board.done(lease, ANSWER, self.now) is None, "a stale answer is refused"
        else:
            assert self.board.failed(lease, WorkerLostError("gone"), self.now) is None
        self.roster.free(worker, self.now)

    # -- control -----------------------------------------------------------------------------------------------

    def steered(self, what, place):
        task = self.pick(self.board.cards, place)
        if task is None:
            return None
        try:
            commands = what(task, self.now)
        except UsageError:
            return None
        # What is taken up again may end again.
        self.finals = {t: s for t, s in self.finals.items() if self.board.cards[t].state in FINAL}
        self.carry_out(commands)
        return self.board.cards[task]

    @rule(place=PLACE)
    def pause(self, place):
        card = self.steered(self.board.pause, place)
        assert card is None or card.state is TaskState.PAUSED

    @rule(place=PLACE)
    def resume(self, place):
        card = self.steered(self.board.resume, place)
        assert card is None or card.state is not TaskState.PAUSED

    @rule(place=PLACE)
    def cancel(self, place):
        card = self.steered(self.board.cancel, place)
        assert card is None or card.state is TaskState.CANCELLED
        assert card is None or all(self.board.cards[task].state in FINAL for task in card.dependents)

    @rule(place=PLACE)
    def requeue(self, place):
        card = self.steered(self.board.requeue, place)
        assert card is None or (card.lease, card.attempts) == (0, 0)
        assert card is None or self.closed or card.state not in FINAL

    @rule(is_budget=st.booleans(), everything=st.booleans())
    @precondition(lambda self: len(self.board.cards) > 12 and not self.closed)
    def close(self, is_budget, everything):
        self.closed = True
        error = BudgetError("spent") if is_budget else TaskCancelledError("enough")
        self.carry_out(self.board.close(error, self.now))
        while everything and self.board.n_open:
            before = self.board.n_open
            self.carry_out(self.board.stop(error, self.now, 3))
            assert self.board.n_open < before

    # -- the crew ----------------------------------------------------------------------------------------------

    @rule(place=PLACE, what=st.sampled_from(["pause", "resume"]))
    def a_worker(self, place, what):
        worker = self.pick(self.roster.posts, place)
        if worker is not None:
            getattr(self.roster, what)(worker, self.now)

    @rule(place=PLACE)
    def send_home(self, place):
        worker = self.pick(self.roster.posts, place)
        if worker is not None and self.roster.size > 1:
            self.roster.leave(worker, self.now)
            for lease, (_, who) in list(self.held.items()):
                if who == worker:
                    self.stale[lease] = self.held.pop(lease)
                    self.carry_out(self.board.given_back(lease, self.now, "sent home"))

    @rule(nodes=st.integers(1, 6))
    def scale(self, nodes):
        self.roster.scale(nodes, self.now)

    # -- always ------------------------------------------------------------------------------------------------

    @invariant()
    def the_facts_agree(self):
        self.board.validate()
        self.roster.validate()

    @invariant()
    def no_task_is_lost(self):
        assert {task for task, card in self.board.cards.items() if card.state in FINAL} == set(self.finals)
        assert self.board.n_open == len(self.board.cards) - len(self.finals)

    def teardown(self):
        """Everything comes to its end when all who are paused go on, and all workers answer."""
        for worker in self.roster.posts:
            self.roster.resume(worker, self.now)
        for task, card in self.board.cards.items():
            if card.state is TaskState.PAUSED:
                self.carry_out(self.board.resume(task, self.now))
        for _ in list(self.stale):
            self.a_lost_worker_comes_back(0, True)
        for _ in range(3 * len(self.board.cards) + 10):
            self.give_out(31.0)
            for _ in list(self.held):
                self.answer(0)
        assert not self.board.n_open or not self.roster.size, "nothing hangs"


BoardMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestBoard = BoardMachine.TestCase
