"""Who gets which task: the crew, and the choice among those who are free. Pure.

A task goes to who is likely to answer soonest: by its own record at the task's skills, else at all tasks. It goes to
somebody who has not had it before where there is such a one. Further:

- **Skills.** Where somebody has all that a task wants, only such workers get it, and it waits for them; where nobody
  has, those who have the most of it go first.
- **Newcomers** go first for `TRIALS` tasks: of who has had none, nothing is known.
- **Waiting counts.** A worker that has been free for `FORGIVEN_S` goes before one that is 2.7 times as good, so that a
  bad record is looked at again some time, and equals take turns.
- **Rest.** Who failed rests, twice as long each time in a row; who takes four times as long as the crew rests for as
  long as it was slower. If all who are there would rest, the one whose rest ends first works.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Literal

import msgspec

from aurora_swarm.swarms.board import Board
from aurora_swarm.swarms.cards import Card
from aurora_swarm.swarms.posts import Free, Post, WorkerState
from aurora_swarm.swarms.ready import Skills
from aurora_swarm.swarms.standing import Pace

TRIALS = 2
FORGIVEN_S = 60.0
REST_S, MOST_REST_S = 1.0, 30.0
SLOW = 4.0
_LOOKED_AT = 8
"""Candidates of each kind, and tasks that nobody who is free should have; bounds the time of one choice."""

_MOST = 256
"""Candidates that are looked at for one task where there are many kinds of workers."""

Refusal = Literal["nobody", "specialists are busy", "had it"]
Hire = Callable[[], tuple[str, Skills]]
"""Makes a worker; its id and skills."""


class Start(msgspec.Struct, frozen=True):
    """A task is given to a worker.

    Args:
        lease: The lease's number.
        task: The task's id.
        worker: The worker's id.
    """

    lease: int
    task: str
    worker: str


class Roster:
    """The crew: who is there, who is free, and how each did.

    Args:
        target: Workers at most.
        hire: Makes a further one; None for never.
        stays: Whether workers stay when there are too many, and only so many of them work at a time.

    Attributes:
        posts: All who are or were there, by id, in the order in which they came.
        counts: How many are in each state.
    """

    def __init__(self, target: int, hire: Hire | None = None, *, stays: bool = False) -> None:
        self.posts: dict[str, Post] = {}
        self.counts: Counter[WorkerState] = Counter()
        self.target = target
        self._hire = hire
        self._stays = stays
        self._pace = Pace()
        self._free: dict[Skills, dict[str, Free]] = {}
        self._resting: list[tuple[float, int, Post]] = []
        self._groups: Counter[Skills] = Counter()
        self._hired: Skills | None = None
        self._news: list[Skills | None] = []
        self._n_free = 0
        self._turns = 0

    @property
    def size(self) -> int:
        """Workers that are there."""
        return len(self.posts) - self.counts["gone"]

    # -- coming and going --------------------------------------------------------------------------------------

    def join(self, worker: str, skills: Skills, now: float) -> None:
        """A worker has come."""
        post = self.posts[worker] = Post(worker, skills, now)
        self.counts["idle"] += 1
        self._count(post, 1)
        self._offer(post, now)

    def leave(self, worker: str, now: float) -> None:
        """A worker is sent home; what it works on is taken from it elsewhere."""
        post = self.posts[worker]
        if post.state != "gone":
            self._withdraw(post)
            if not post.is_paused:
                self._count(post, -1)
            self._move(post, "gone", now)

    def scale(self, target: int, now: float) -> None:
        """Have so many workers, or so many at work; those who are free go first, others after their task."""
        self.target = target
        if self.size <= target or self._stays:
            return
        idle = [post.id for post in self.posts.values() if post.state == "idle"]
        for worker in idle[: self.size - target]:
            self.leave(worker, now)

    def pause(self, worker: str, now: float) -> None:
        """Give it nothing; it keeps what it has."""
        post = self.posts[worker]
        if not post.is_paused and post.state != "gone":
            post.is_paused = True
            self._count(post, -1)
            self._withdraw(post)
            self._move(post, "paused", now)

    def resume(self, worker: str, now: float) -> None:
        """As before the pause."""
        post = self.posts[worker]
        if post.is_paused and post.state != "gone":
            post.is_paused = False
            self._count(post, 1)
            self._move(post, "working" if post.task else "idle", now)
            if not post.task:
                self._offer(post, now)

    # -- tasks -------------------------------------------------------------------------------------------------

    def take(self, post: Post, task: str, now: float) -> None:
        """It begins a task."""
        self._withdraw(post)
        post.task = task
        post.given += 1
        self._move(post, "working", now)

    def note(self, worker: str, skills: Skills, seconds: float, *, ok: bool) -> None:
        """What became of its task: the feedback that the next choice goes by.

        Args:
            worker: Who had it.
            skills: What the task wanted.
            seconds: How long it had it.
            ok: Whether there was an answer.
        """
        post = self.posts[worker]
        pace = self._pace.beside(skills, seconds)
        # A failure that came fast says nothing of speed, a slow one does.
        post.standing.note(skills, ok=ok, pace=pace if ok or (pace or 0.0) > 1.0 else None)
        post.failures = 0 if ok else post.failures + 1
        rest_s = REST_S * 2.0 ** min(post.failures - 1, 10) if post.failures else 0.0
        if pace is not None and post.standing.general.given > TRIALS and post.standing.general.pace > SLOW:
            rest_s = max(rest_s, seconds - self._pace.usual_s(skills))
        post.rest_s = min(rest_s, MOST_REST_S)
        if ok:
            self._pace.note(skills, seconds)

    def free(self, worker: str, now: float) -> None:
        """It has nothing to do any more: it rests, or is free, or goes where there are too many."""
        post = self.posts[worker]
        post.task = ""
        post.rests_until, post.rest_s = now + post.rest_s, 0.0
        if post.state == "gone":
            return
        if self.size > self.target and not self._stays:
            self.leave(worker, now)
        elif not post.is_paused:
            self._move(post, "idle", now)
            self._offer(post, now)

    def wake(self, now: float) -> None:
        """Those whose rest is over are free."""
        while self._resting and self._resting[0][0] <= now:
            self._rise(now)

    def next_wake(self) -> float | None:
        """When the next rest is over; None when nobody rests."""
        while self._resting and self._resting[0][2].turn != self._resting[0][1]:
            heapq.heappop(self._resting)
        return self._resting[0][0] if self._resting else None

    def news(self) -> list[Skills | None]:
        """Whose tasks may be put aside no longer: skills of those who became free; None where the crew has changed."""
        news, self._news = self._news, []
        return news

    # -- choosing ----------------------------------------------------------------------------------------------

    def has_room(self, now: float) -> bool:
        """Whether a task could be given to somebody now."""
        if self.counts["working"] >= self.target:
            return False
        if self._n_free or self._may_hire():
            return True
        if self._resting and not self.counts["working"] and self.next_wake() is not None:
            self._rise(now)
        return self._n_free > 0

    def choose(self, wanted: Skills, had: Collection[str], now: float) -> Post | Refusal:
        """Who gets a task.

        Args:
            wanted: The task's skills.
            had: Who has had it before.
            now: The time.

        Returns:
            A worker who is free; or why it has to wait.
        """
        able = [skills for skills, count in self._groups.items() if count > 0 and wanted <= skills] if wanted else []
        found = self._best(able or self._kinds(wanted), wanted, had)
        if isinstance(found, Post):
            return found
        # One more of a kind that may not have it is no use.
        helps = not able or self._hired is None or wanted <= self._hired
        if helps and self._hire is not None and self._may_hire():
            worker, self._hired = self._hire()
            self.join(worker, self._hired, now)
            return self.choose(wanted, had, now)
        return "specialists are busy" if able and found == "nobody" else found

    def _best(self, kinds: list[Skills], wanted: Skills, had: Collection[str]) -> Post | Refusal:
        best: Post | None = None
        least = math.inf
        spare: Post | None = None
        looked_at = 0
        for skills in kinds:
            if best is not None and (len(skills & wanted) < len(best.skills & wanted) or looked_at > _MOST):
                break
            for post in self._candidates(skills, wanted, _LOOKED_AT + len(had)):
                looked_at += 1
                if post.id in had:
                    spare = spare or post
                elif (key := self._key(post, wanted)) < least:
                    best, least = post, key
        if best is not None:
            return best
        if spare is None:
            return "nobody"
        return "had it" if self._others(had, kinds) else spare

    def _candidates(self, skills: Skills, wanted: Skills, count: int) -> Iterator[Post]:
        free = self._free.get(skills)
        if free:
            for kind in ("", *wanted):
                if kind in free:
                    yield from free[kind].first(count)

    def _kinds(self, wanted: Skills) -> list[Skills]:
        """All kinds of workers, those with the most of what is wanted first."""
        if not wanted or len(self._free) < 2:
            return list(self._free)
        return sorted(self._free, key=lambda skills: -len(skills & wanted))

    def _others(self, had: Collection[str], kinds: list[Skills]) -> bool:
        """Whether somebody who has not had a task will be free some time."""
        there = sum(self._groups[skills] for skills in kinds)
        known = (self.posts[worker] for worker in had)
        return there > sum(post.state != "gone" and not post.is_paused and post.skills in kinds for post in known)

    def _may_hire(self) -> bool:
        return self._hire is not None and self.size < self.target

    # -- who is free -------------------------------------------------------------------------------------------

    def _count(self, post: Post, change: int) -> None:
        self._groups[post.skills] += change
        if post.skills:
            self._news.append(None)

    def _offer(self, post: Post, now: float) -> None:
        """It is free, from now on or when it has rested."""
        self._turns += 1
        post.turn = self._turns
        if post.rests_until > now:
            heapq.heappush(self._resting, (post.rests_until, post.turn, post))
            return
        post.rests_until = 0.0
        self._n_free += 1
        if post.skills:
            self._news.append(post.skills)
        free = self._free.setdefault(post.skills, {"": Free()})
        for skill in ("", *post.standing.skills):
            kind = free.get(skill) or free.setdefault(skill, Free())
            kind.put(self._key(post, (skill,) if skill else ()), post)
            kind.swept(self._n_free)

    def _withdraw(self, post: Post) -> None:
        """It is not free any more; nothing happens when it was not."""
        if post.turn:
            post.turn = 0
            if not post.rests_until:
                self._n_free -= 1

    def _rise(self, now: float) -> None:
        _, turn, post = heapq.heappop(self._resting)
        if post.turn == turn:
            post.rests_until = 0.0
            self._offer(post, now)

    def _key(self, post: Post, skills: Collection[str]) -> float:
        """Smaller is better; of one who is free it does not change with time."""
        if post.standing.general.given < TRIALS:
            return post.since / FORGIVEN_S - 1e6
        return math.log(post.standing.cost(skills)) + post.since / FORGIVEN_S

    def _move(self, post: Post, state: WorkerState, now: float) -> None:
        self.counts[post.state] -= 1
        self.counts[state] += 1
        post.state, post.since = state, now

    # -- for tests ---------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Check everything that must hold between the facts; for tests, takes linear time."""
        assert Counter(post.state for post in self.posts.values()) == +self.counts
        there = [post for post in self.posts.values() if post.state != "gone"]
        assert Counter(post.skills for post in there if not post.is_paused) == +self._groups
        for post in there:
            free = "working" if post.task else "idle"
            assert post.state == ("paused" if post.is_paused else free)
            assert bool(post.turn) == (post.state == "idle")
        assert self._n_free == sum(post.state == "idle" and not post.rests_until for post in there)


def assign(board: Board, roster: Roster, now: float, clock: float, most: int) -> Iterator[Start]:
    """Give out tasks while there are such as may begin and workers who should have them.

    Args:
        board: The tasks; each that is given out is under a lease when it is yielded.
        roster: The crew.
        now: The time.
        clock: The time by which the crew works and rests; it stands still while the run is paused.
        most: Tasks that are given out at most. The iterator must be read to its end.
    """
    left: list[Card] = []
    for skills in roster.news():
        board.queue.bring_back(skills)
    while most > 0 and len(left) < _LOOKED_AT and roster.has_room(clock):
        task = board.queue.pop()
        if task is None:
            break
        card = board.cards[task]
        chosen = roster.choose(card.skills, card.had, clock)
        if isinstance(chosen, Post):
            roster.take(chosen, task, clock)
            most -= 1
            yield Start(board.start(task, chosen.id, now), task, chosen.id)
        elif chosen == "specialists are busy":
            board.queue.put_aside(task)
        else:
            left.append(card)
    for card in left:
        board.queue.put_back(card.id)
