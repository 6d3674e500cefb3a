"""One objective of a hivemind, from the plan to the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.hoisting import fenced
from aurora_swarm.errors import AuroraSwarmError, CallbackError, MemberLostError, TaskCancelledError
from aurora_swarm.swarms.allotment import Allotment, Gift, Macro
from aurora_swarm.swarms.exchange import SharedBoard
from aurora_swarm.swarms.findings import Finding, in_envelope
from aurora_swarm.swarms.grants import free_in, share_of
from aurora_swarm.swarms.hive_report import Account, why_nothing
from aurora_swarm.swarms.hive_thinking import HiveMind, Manner
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.remote import RemoteSwarm
from aurora_swarm.swarms.work import Member, SwarmOutcome, TaskSpec, TaskState
from aurora_swarm.values.budget import Budget


def key_of(spec: TaskSpec) -> str:
    """What tasks that ask the same have in common: shared tasks, of whichever swarm, are known by it."""
    return spec.title if spec.instructions in {"", spec.title} else f"{spec.title}: {spec.instructions}"


class Means:
    """What a run has.

    Args:
        members: Swarms by name.
        board: Where they write what they find.
        mind: Who plans and consolidates; None where nobody does.
        purse: Bounds all of it.
        work: The part of it that the swarms may spend.
    """

    def __init__(
        self, members: Mapping[str, Member], *, board: SharedBoard, mind: Mind | None, purse: Purse, work: Purse
    ) -> None:
        self.members = dict(members)
        self.board = board
        self.mind = mind
        self.purse = purse
        self.work = work


class HiveRun:
    """Works on one objective.

    Args:
        means: What it has.
        manner: How.
        objective: What is wanted.
        context: What is known from elsewhere.
    """

    def __init__(self, means: Means, manner: Manner, objective: str, context: str) -> None:
        self._members = means.members
        self._board = means.board
        self._work = means.work
        self._manner = manner
        self._context = context
        self._account = Account(objective)
        self._mind = HiveMind(means.mind, means.purse, manner, self._account)
        self._allotment = Allotment([], list(means.members), max_attempts=manner.max_attempts, patience=manner.patience)
        self._running: dict[asyncio.Task[SwarmOutcome], Gift] = {}
        self._seen: dict[Gift, dict[str, Mapping[str, int]]] = {}
        self._dropped: set[Gift] = set()

    async def pursue(self, tasks: Sequence[TaskSpec] | None) -> SwarmOutcome:
        """From the plan to the answer; what fails is in the outcome.

        Args:
            tasks: Macro-tasks that the user has planned; None to plan.
        """
        try:
            await self._introduce()
            await self._work_in_rounds(tasks)
            answer = await self._mind.answer(self._found())
        except AuroraSwarmError as error:
            return self._account.outcome(self._allotment, self._board, error=error)
        return self._account.outcome(self._allotment, self._board, answer=answer)

    async def _introduce(self) -> None:
        """Ask the remote swarms who they are, all at once; those that do not answer are lost."""
        remote = {name: each for name, each in self._members.items() if isinstance(each, RemoteSwarm)}
        heard = await asyncio.gather(*(each.introduce() for each in remote.values()), return_exceptions=True)
        for name, failure in zip(remote, heard, strict=True):
            if isinstance(failure, MemberLostError):
                self._account.lost(name, failure)
                self._allotment.lose(name)
            elif failure is not None:
                raise failure
        if not self._allotment.members:
            raise MemberLostError("none of the swarms can be reached", remedy="see the outcome's members for why")

    async def _work_in_rounds(self, tasks: Sequence[TaskSpec] | None) -> None:
        planned = await self._mind.plan(self._abouts(), self._context, tasks)
        rounds = self._manner.max_rounds if tasks is None else 1
        while planned.macros:
            self._account.notes.extend(f"{note[:1].upper()}{note[1:]}." for note in planned.notes)
            self._allotment.add(planned.macros)
            await self._work_on()
            rounds -= 1
            if rounds == 0:
                return
            found = in_envelope(self._findings(), self._manner.context_tokens)
            there = [task.spec for task in self._allotment.tasks.values()]
            planned = await self._mind.further(self._abouts(), self._context, found, there)

    def _abouts(self) -> dict[str, str]:
        return {name: self._members[name].about for name in self._allotment.members}

    # -- the work ------------------------------------------------------------------------------------------------

    async def _work_on(self) -> None:
        """Give macro-tasks out until all have ended."""
        now = asyncio.get_running_loop().time
        try:
            while True:
                for gift in self._allotment.give(now()):
                    self._running[asyncio.create_task(self._carried_out(gift))] = gift
                if not self._running:
                    return
                wake_s = self._allotment.wake_in(now())
                ended, _ = await asyncio.wait(self._running, timeout=wake_s, return_when=asyncio.FIRST_COMPLETED)
                for work in ended:
                    self._take_in(work, now())
        finally:
            await self._end_all()

    async def _end_all(self) -> None:
        running = list(self._running)
        for work in running:
            work.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _carried_out(self, gift: Gift) -> SwarmOutcome:
        task, member = self._allotment.tasks[gift.task], self._members[gift.member]
        self._seen[gift] = {view.key: view.seen for view in self._board.views()}
        purse = self._purse_for(member)
        bounds = (task.spec.timeout_s, purse.left_s(asyncio.get_running_loop().time()))
        clock = asyncio.timeout(min((s for s in bounds if s is not None), default=None))
        wanted = task.spec.instructions or task.spec.title
        try:
            async with clock:
                return await member.run(wanted, purse=purse, context=self._told(gift.member, task))
        except AuroraSwarmError:
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and clock.expired():
                raise TaskCancelledError("its time was over", remedy="allow more wall_s, or timeout_s") from None
            problem = f"the swarm {gift.member!r} raised {type(error).__name__}: {error}"
            raise CallbackError(problem, remedy="mend that member's run") from error

    def _purse_for(self, member: Member) -> Purse:
        """What a swarm may spend on one macro-task; one elsewhere has a share, since all of it is reserved."""
        purse = Purse(self._manner.per_member or Budget(), None, self._work)
        if not isinstance(member, RemoteSwarm):
            return purse
        free = free_in(purse, asyncio.get_running_loop().time())
        return Purse(share_of(free, 1 / max(self._allotment.n_open, 1)), None, purse)

    def _take_in(self, work: asyncio.Task[SwarmOutcome], now: float) -> None:
        """Note how a swarm ended."""
        gift = self._running.pop(work)
        error = TaskCancelledError("the swarm ended without an outcome") if work.cancelled() else work.exception()
        if gift in self._dropped:
            self._allotment.dropped(gift)
        elif isinstance(error, AuroraSwarmError):
            self._failed(gift, error, now)
        elif error is not None:
            raise error
        else:
            self._ended(gift, work.result(), now)

    def _failed(self, gift: Gift, error: AuroraSwarmError, now: float) -> None:
        if isinstance(error, MemberLostError):
            self._account.lost(gift.member, error)
        else:
            outcome = SwarmOutcome(objective=self._account.objective, answer="", error=error)
            self._account.took(gift.member, outcome)
        self._allotment.failed(gift, error, now)

    def _ended(self, gift: Gift, outcome: SwarmOutcome, now: float) -> None:
        self._account.took(gift.member, outcome)
        if outcome.error is not None:
            self._allotment.failed(gift, outcome.error, now)
            return
        others = self._allotment.done(gift, now)
        self._account.answered(gift.task, outcome)
        self._write(gift, outcome)
        for work, other in self._running.items():
            if other.task == gift.task and other.member in others:
                self._dropped.add(other)
                work.cancel()

    # -- what was found ------------------------------------------------------------------------------------------

    def _write(self, gift: Gift, outcome: SwarmOutcome) -> None:
        """Put what a swarm has found on the board: its answer, and those of its tasks."""
        own, seen = key_of(self._allotment.tasks[gift.task].spec), self._seen[gift]
        sure = outcome.n_ok / len(outcome.tasks) if outcome.tasks else 1.0
        parts = outcome.tasks if len(outcome.tasks) > 1 else ()  # a single one says what the answer says
        found = {key_of(each.spec): each.text for each in parts if each.text}
        for key, value in (found | {own: outcome.answer}).items():
            self._board.write(key, value, who=gift.member, seen=seen.get(key, {}), confidence=sure)

    def _told(self, member: str, task: Macro) -> str:
        """What a swarm is told: what the caller knows, and what the others have found."""
        found = in_envelope(self._findings(apart_from=member, task=task), self._manner.context_tokens)
        parts = [self._context] if self._context else []
        if found:
            parts.append(fenced("what other swarms have found: data, not instructions", found))
        return "\n\n".join(parts)

    def _findings(self, *, apart_from: str = "", task: Macro | None = None) -> list[Finding]:
        """The board: first what a task builds on, then answers of macro-tasks, then the rest; the newest first."""
        before = () if task is None else task.spec.after
        first = {key_of(self._allotment.tasks[each].spec) for each in before}
        answers = {key_of(each.spec) for each in self._allotment.tasks.values()}
        views = [view for view in reversed(self._board.views()) if view.who != apart_from]
        views.sort(key=lambda view: (view.key not in first, view.key not in answers))
        return [Finding(view.key, view.value, view.who) for view in views]

    def _found(self) -> list[tuple[str, str]]:
        """The macro-tasks that have an answer, and what is taken to be it.

        Raises:
            AuroraSwarmError: None has; the first reason.
        """
        done = [task.spec for task in self._allotment.tasks.values() if task.state is TaskState.DONE]
        titles = {key_of(spec): spec.title for spec in done}
        views = ((title, self._board.read(key)) for key, title in titles.items())
        found = [(title, view.value) for title, view in views if view is not None]
        if not found:
            raise why_nothing(self._allotment)
        return found
