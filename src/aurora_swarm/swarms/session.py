"""One run of tasks, and how it is steered."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Literal

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import TaskCancelledError, UsageError
from aurora_swarm.swarms.attempts import Floor
from aurora_swarm.swarms.cards import Card
from aurora_swarm.swarms.control import Controls, ItemStatus, SwarmStatus
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.posts import Post
from aurora_swarm.swarms.work import FINAL, TaskRecord, TaskSpec, TaskState
from aurora_swarm.values.reply import Usage


class Session(Controls):
    """Tasks under way, from `Orchestrator.open`. Belongs to one event loop; no method but `results` awaits anything.

    Args:
        floor: Where the work is done.
        purse: Out of which it is paid.
        name: For people.
        objective: For people.

    Attributes:
        id: The run's id.
        mind: Whom the workers ask; planners and reducers may ask it too.
        purse: Out of which all of it is paid; None for no bound.
        phase: ``planning``, ``working``, ``consolidating`` or ``ended``; set by who leads the run.
    """

    def __init__(self, floor: Floor, *, purse: Purse | None = None, name: str = "", objective: str = "") -> None:
        self.id = new_id()
        self.mind: Mind = floor.mind
        self.purse = purse
        self.phase = "working"
        self._floor = floor
        self._board = floor.board
        self._roster = floor.roster
        self._name = name
        self._objective = objective
        self._began = floor.clock.loop_now()
        self._is_over = False

    # -- tasks -------------------------------------------------------------------------------------------------

    def add(self, spec: TaskSpec) -> str:
        """Put a task on the board; also while the run is under way.

        Args:
            spec: The task; an id is made for it when it has none.

        Returns:
            Its id. Where nothing is given out any more (the budget is spent, the run was cancelled) the task is final
            at once.

        Raises:
            UsageError: It builds on a task that is not there, its id is taken, or the session is over.
        """
        return self.add_all([spec])[0]

    def add_all(self, specs: Iterable[TaskSpec]) -> list[str]:
        """Put tasks on the board, all or none; they may build on each other in any order.

        Raises:
            UsageError: As of `add`, or they build on each other in a circle.
        """
        if self._is_over:
            raise UsageError("the session is over", remedy="add tasks inside of 'async with orchestrator.open()'")
        named = [spec if spec.id else msgspec.structs.replace(spec, id=new_id()) for spec in specs]
        self._floor.carry_out(self._board.add(named, self._now()))
        return [spec.id for spec in named]

    async def results(self) -> AsyncIterator[TaskRecord]:
        """Every task once when it is final, in order of time; ends when none is open.

        Tasks that are added while it is read are part of it. A task that was requeued after it was final comes again
        when it is final again. Any number of readers may read at once; each gets everything.
        """
        floor = self._floor
        place = 0
        while True:
            while place < len(floor.ended):
                place += 1
                if floor.is_current(place - 1):
                    yield floor.ended[place - 1]
            if not self._board.n_open:
                return
            await floor.news()

    def records(self) -> tuple[TaskRecord, ...]:
        """All tasks in the order in which they were added."""
        return tuple(card.record() for card in self._board.cards.values())

    def record(self, task: str) -> TaskRecord:
        """One task.

        Raises:
            UsageError: There is none with this id.
        """
        return self._board.card(task).record()

    def scale(self, nodes: int) -> None:
        """Have so many workers from now on; further ones are made when there is work for them.

        Of those that are too many, who is free goes at once, and others after the task that they have.

        Raises:
            UsageError: `nodes` is less than 1.
        """
        if nodes < 1:
            raise UsageError(f"cannot work with {nodes} workers", remedy="give at least 1, or pause the run")
        self._roster.scale(within_width(nodes, self.purse), self._floor.clock.now())
        self._floor.go_on()

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts that came back. What a lost worker spent nobody tells; a purse books its worst."""
        return self._floor.usage

    def end(self) -> None:
        """Take no further tasks."""
        self._is_over = True
        self.phase = "ended"

    # -- what is shown -----------------------------------------------------------------------------------------

    def status(self) -> SwarmStatus:
        """The run at this moment; takes constant time."""
        return SwarmStatus(
            id=self.id,
            name=self._name,
            objective=self._objective,
            phase="paused" if self._floor.gate.is_shut and not self._is_over else self.phase,
            tasks={state.value: n for state, n in self._board.counts.items() if n},
            workers={state: n for state, n in self._roster.counts.items() if n},
            usage=self.usage,
            seconds=self._now() - self._began,
        )

    def items(
        self, *, kind: Literal["task", "worker"] | None = None, state: str | None = None, limit: int = 100
    ) -> list[ItemStatus]:
        """Tasks and workers, the newest first; those in a given state by when they came into it.

        Args:
            kind: Only those.
            state: Only those in it.
            limit: At most so many. The time is proportional to it; for workers in a state, to the crew.
        """
        tasks = self._tasks_in(state) if kind != "worker" else iter(())
        workers = self._workers_in(state) if kind != "task" else iter(())
        # Both are in order already; a busy run has thousands of them, and a page is wanted.
        merged = heapq.merge(tasks, workers, key=lambda pair: -pair[0])
        return [item for _, item in islice(merged, max(limit, 0))]

    def item(self, id: str) -> ItemStatus:  # noqa: A002 - what it is called everywhere
        """One task or worker.

        Raises:
            UsageError: Nobody has this id.
        """
        what = self._find(id)
        if what is None:
            raise UsageError("that is the run itself", remedy="status() shows it")
        return self._shown(what)

    # -- what is done to it ------------------------------------------------------------------------------------

    def pause(self, id: str) -> None:  # noqa: A002
        """No further call to a model begins for it; what is under way is let finish, leases are held.

        Raises:
            UsageError: Nobody has this id, or it is final.
        """
        what = self._find(id)
        if isinstance(what, Card):
            self._board.pause(id, self._now())
        elif what is not None:
            self._roster.pause(self._there(what).id, self._floor.clock.now())
        else:
            self._floor.pause_all()
        self._changed(what)

    def resume(self, id: str) -> None:  # noqa: A002
        """Go on.

        Raises:
            UsageError: Nobody has this id, or it is final.
        """
        what = self._find(id)
        if isinstance(what, Card):
            commands = self._board.resume(id, self._now())
            self._changed(what)
            self._floor.carry_out(commands)
        elif what is not None:
            self._roster.resume(self._there(what).id, self._floor.clock.now())
            self._changed(what)
        else:
            self._floor.resume_all()

    def cancel(self, id: str) -> None:  # noqa: A002
        """End it.

        A task is cancelled, with those that build on it. A worker is sent home, and its task given to another. Of the
        run all tasks that are not final are cancelled, and none is begun any more.

        Raises:
            UsageError: Nobody has this id, the task is done or failed, or the worker is the last one.
        """
        what = self._find(id)
        if isinstance(what, Card):
            self._floor.carry_out(self._board.cancel(id, self._now()))
        elif what is not None:
            self._send_home(what)
        else:
            self._floor.cancel_all(TaskCancelledError("the run was cancelled"))

    def requeue(self, id: str) -> None:  # noqa: A002
        """Take a task from its worker, or take up again one that failed or was cancelled; the attempts start anew.

        Tasks that were cancelled only because they build on it are taken up again with it.

        Raises:
            UsageError: Nobody has this id, it is done, or it is the run.
        """
        what = self._find(id)
        task = self._task_of(what) if isinstance(what, Post) else id
        if what is None:
            raise UsageError("a run cannot be requeued", remedy="requeue its tasks")
        if task:
            self._floor.carry_out(self._board.requeue(task, self._now()))

    def steer(self, id: str, text: str) -> None:  # noqa: A002
        """Say something to whoever works on it, which is read before the next call to the model.

        It becomes a message of the user's in the conversation, where that stands then, and stays there. What is said to
        a task is said to everybody who works on it from now on; what is said to the run, to everybody.

        Raises:
            UsageError: Nobody has this id, the task is final, the worker has none, or the text is empty.
        """
        what = self._find(id)
        if not text.strip():
            raise UsageError("there is nothing to say", remedy="give a text")
        if what is None:
            self._floor.said.append(text)
            return
        task = self._task_of(what) if isinstance(what, Post) else id
        if not task:
            raise UsageError(f"worker {id} works on nothing", remedy="steer a task, or the run")
        card = self._board.card(task)
        if card.state in FINAL:
            raise UsageError(f"task {task} is {card.state}: nobody works on it", remedy="requeue it first")
        self._floor.said_to.setdefault(task, []).append(text)

    # -- parts -------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._floor.clock.loop_now()

    def _find(self, id: str) -> Card | Post | None:  # noqa: A002
        """The task or worker; None for the run."""
        if id == self.id:
            return None
        found = self._board.cards.get(id) or self._roster.posts.get(id)
        if found is None:
            raise UsageError(f"nobody has the id {id}", remedy="items() lists tasks and workers")
        return found

    def _there(self, post: Post) -> Post:
        if post.state == "gone":
            raise UsageError(f"worker {post.id} is gone", remedy="scale() brings further workers")
        return post

    def _task_of(self, post: Post) -> str:
        """What a worker works on; nothing where it has lost its task and has not come back yet."""
        attempt = self._floor.attempt_at(post.task) if post.task else None
        return post.task if attempt is not None and attempt.performer.id == post.id else ""

    def _changed(self, what: Card | Post | None) -> None:
        """Hold up, or let go on, what is under way for it; then give out what may begin."""
        task = what.task if isinstance(what, Post) else what.id if what is not None else ""
        attempt = self._floor.attempt_at(task) if task else None
        if attempt is not None:
            self._floor.set_gate(attempt)
        self._floor.go_on()

    def _send_home(self, post: Post) -> None:
        if post.state == "gone":
            return
        if self._roster.size == 1:
            raise UsageError(f"worker {post.id} is the last one", remedy="scale up first, or cancel the run")
        self._roster.target = max(1, min(self._roster.target, self._roster.size) - 1)
        self._floor.send_home(post.id)

    def _tasks_in(self, state: str | None) -> Iterator[tuple[float, ItemStatus]]:
        if state is None:
            return ((card.history[0].at_s, self._shown(card)) for card in reversed(self._board.cards.values()))
        if state not in TaskState.__members__.values():
            return iter(())
        ids = reversed(self._board.by_state[TaskState(state)])
        return ((card.since, self._shown(card)) for card in map(self._board.card, ids))

    def _workers_in(self, state: str | None) -> Iterator[tuple[float, ItemStatus]]:
        if state is None:
            return ((post.came, self._shown(post)) for post in reversed(self._roster.posts.values()))
        posts = [post for post in self._roster.posts.values() if post.state == state]
        posts.sort(key=lambda post: -post.since)
        return ((post.since, self._shown(post)) for post in posts)

    def _shown(self, what: Card | Post) -> ItemStatus:
        if isinstance(what, Post):
            return ItemStatus(
                kind="worker",
                id=what.id,
                title=str(getattr(self._floor.performers[what.id], "name", "") or what.id),
                state=what.state,
                partner=self._task_of(what),
                attempts=what.given,
                seconds=self._floor.clock.now() - what.since,
            )
        assert what.state is not None
        return ItemStatus(
            kind="task",
            id=what.id,
            title=what.spec.title,
            state=what.state.value,
            partner=what.worker if what.lease else "",
            attempts=what.attempts,
            seconds=self._now() - what.since,
            note=what.history[-1].note,
        )


def within_width(nodes: int, purse: Purse | None) -> int:
    """No more workers than agents may be under way at a time by any purse."""
    widths = [p.budget.width for p in purse.chain if p.budget.width is not None] if purse is not None else []
    return max(1, min([nodes, *widths]))
