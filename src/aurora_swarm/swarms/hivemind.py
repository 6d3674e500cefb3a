"""A hivemind: swarms that work on one objective together, wherever they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.allotment import Allotment
from aurora_swarm.swarms.consolidation import CONSOLIDATE, check_consolidate
from aurora_swarm.swarms.exchange import Rule, SharedBoard
from aurora_swarm.swarms.hive_plan import macros_given
from aurora_swarm.swarms.hive_run import HiveRun, Means
from aurora_swarm.swarms.hive_thinking import NO_MODEL, NO_MODEL_REMEDY, Manner
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.models import Model
from aurora_swarm.swarms.remote import RemoteSwarm
from aurora_swarm.swarms.spending import share_for_work
from aurora_swarm.swarms.work import Member, SwarmOutcome, TaskSpec
from aurora_swarm.values.budget import Budget, Price


class Hivemind:
    """Pursues objectives with several swarms, in this process or elsewhere. It is a `Member` itself.

    An objective becomes macro-tasks. Each goes to a swarm that suits it and is idle, those of higher priority first.
    What one swarm has found is written on a board, and told to the others when they begin: as data, in an envelope.
    Where swarms differ, a stated rule decides, and the outcome's notes show the difference. A macro-task that fails, or
    whose swarm is lost, goes to another; the answers that there are become one, and notes say what is not in it.

    Args:
        members: Swarms, or addresses of remote ones: ``a2a://host:port``. One that asks for a token is given as
            `RemoteSwarm`.
        model: Who plans and consolidates; that of the first local swarm when None.
        budget: What a run may spend, all swarms together; a fifth of it is kept for the consolidation.
        price: What the model costs, for a budget in money; the model's own when None.
        name: For people, and unique within a hivemind of which this one is a member.
        about: What it is good at; all that its members are good at when empty.
        objective: What is wanted, where `run` is not told.
        reconcile: Who is right where swarms differ: ``latest``, ``confidence`` (the share of a swarm's tasks that were
            done), or a function of the key and the entries.
        max_tasks: Macro-tasks of a plan at most; two for each swarm when None.
        max_rounds: Plans at most: after each, the planner is asked whether more is to be done.
        max_attempts: How often a macro-task is given out.
        patience: A macro-task that runs for so many times what others took is given to an idle swarm too, and the first
            answer counts; infinite to wait.
        context_tokens: What a swarm is told of the others' findings, in tokens.
        per_member: What one swarm may spend on one macro-task; None for what there is.
        consolidate: How answers become one; ``{n}`` becomes their number.

    Raises:
        UsageError: There are no members, a number is out of range, or a rule or an address is none.
    """

    def __init__(
        self,
        members: Sequence[Member | str],
        *,
        model: Model | None = None,
        budget: Budget | None = None,
        price: Price | None = None,
        name: str = "",
        about: str = "",
        objective: str = "",
        reconcile: Rule = "latest",
        max_tasks: int | None = None,
        max_rounds: int = 1,
        max_attempts: int = 3,
        patience: float = 3.0,
        context_tokens: int = 1_500,
        per_member: Budget | None = None,
        consolidate: str = CONSOLIDATE,
    ) -> None:
        if not members:
            raise UsageError("a hivemind has no members", remedy="give swarms, or addresses such as a2a://host:port")
        most = 2 * len(members) if max_tasks is None else max_tasks
        if min(most, max_rounds, max_attempts) < 1 or patience <= 0 or context_tokens < 0:
            raise UsageError("a number is out of range", remedy="give 1 or more of tasks, rounds and attempts")
        check_consolidate(consolidate)
        SharedBoard(reconcile)
        self._members = _named([RemoteSwarm(each) if isinstance(each, str) else each for each in members])
        self._model = model or _model_of(members)
        self._price = price if price is not None or self._model is None else self._model.price
        self._budget = budget
        self._reconcile = reconcile
        self.name = name or "hivemind"
        self.objective = objective
        self.about = about or " ".join(each.about for each in self._members.values() if each.about)
        self._manner = Manner(
            max_tasks=most,
            max_rounds=max_rounds,
            max_attempts=max_attempts,
            patience=patience,
            context_tokens=context_tokens,
            instruction=consolidate,
            per_member=per_member,
        )

    @property
    def members(self) -> Mapping[str, Member]:
        """The swarms by the names that outcomes call them by."""
        return dict(self._members)

    async def run(
        self,
        objective: str | None = None,
        *,
        purse: Purse | None = None,
        context: str = "",
        tasks: Sequence[TaskSpec] | None = None,
        board: SharedBoard | None = None,
    ) -> SwarmOutcome:
        """Pursue an objective to its end.

        Args:
            objective: What is wanted; the hivemind's own when None.
            purse: Out of which it is paid, within the hivemind's own budget; None for no bound from above.
            context: What it should know: data, not instructions.
            tasks: Macro-tasks, where they need not be planned. Names of swarms among the skills of one say whom it
                suits, the best first.
            board: Where swarms write what they find, to be read by others meanwhile; its own when None. Its rule goes
                before `reconcile`.

        Returns:
            How it ended, with each swarm's part in `members`; what fails is in it. Cancelling ends all of it, at other
            sites too.

        Raises:
            UsageError: There is no objective, no backend, or nobody to plan; or an id of `tasks` is there twice, or
                something builds on what does not stand before it. Nothing was begun.
        """
        wanted = objective if objective is not None else self.objective
        if not wanted.strip() or (tasks is not None and not tasks):
            raise UsageError("there is no objective, or no task", remedy='say what is wanted: run("...")')
        if self._model is None and tasks is None and len(self._members) > 1:
            raise UsageError(NO_MODEL, remedy=NO_MODEL_REMEDY)
        if tasks is not None:
            names = {name: member.about for name, member in self._members.items()}
            Allotment(macros_given(tasks, names, new_id).macros, list(names))
        now = asyncio.get_running_loop().time()
        own = Purse(self._budget or Budget(), self._price, purse)
        own.enter(now)  # its clock starts with the plan
        own.leave()
        work = Purse(share_for_work(own, now), None, own)
        work.enter(now)
        work.leave()
        async with AsyncExitStack() as stack:
            mind = None if self._model is None else await stack.enter_async_context(self._model.opened())
            shared = board or SharedBoard(self._reconcile)
            means = Means(self._members, board=shared, mind=mind, purse=own, work=work)
            return await HiveRun(means, self._manner, wanted, context).pursue(tasks)


def _named(members: Sequence[Member]) -> dict[str, Member]:
    """Members by name; where two have the same, the later ones are numbered."""
    named: dict[str, Member] = {}
    for member in members:
        name, number = member.name or "swarm", 1
        while name in named:
            number += 1
            name = f"{member.name or 'swarm'}-{number}"
        named[name] = member
    return named


def _model_of(members: Sequence[Member | str]) -> Model | None:
    """The model of the first swarm that has one."""
    for member in members:
        model = getattr(getattr(member, "orchestrator", None), "model", None)
        if isinstance(model, Model):
            return model
    return None
