"""The account of a hivemind's run: what each swarm came to, and what the reader should know. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aurora_swarm.errors import AuroraSwarmError, CallbackError, MemberLostError, PlanError
from aurora_swarm.swarms.allotment import Allotment, Macro
from aurora_swarm.swarms.excerpts import shortened
from aurora_swarm.swarms.exchange import SharedBoard, View
from aurora_swarm.swarms.work import SwarmOutcome, TaskRecord
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage

SHOWN_CHARS = 80
"""Characters of an answer that a note shows."""


class Account:
    """What has come of a run so far.

    Args:
        objective: What is wanted.

    Attributes:
        usage: Tokens of planning and consolidation.
        notes: What the reader should know, in sentences.
    """

    def __init__(self, objective: str) -> None:
        self.objective = objective
        self.usage = Usage()
        self.notes: list[str] = []
        self._outcomes: dict[str, list[SwarmOutcome]] = defaultdict(list)
        self._answers: dict[str, SwarmOutcome] = {}

    def took(self, member: str, outcome: SwarmOutcome) -> None:
        """A swarm has ended a macro-task, with an answer or without."""
        self._outcomes[member].append(outcome)

    def answered(self, task: str, outcome: SwarmOutcome) -> None:
        """This is the answer of a macro-task."""
        self._answers[task] = outcome

    def lost(self, member: str, error: MemberLostError) -> None:
        """A swarm did not come back."""
        self._outcomes[member].append(SwarmOutcome(objective=self.objective, answer="", error=error))
        self.notes.append(f"The swarm {member!r} was lost: {error}.")

    def outcome(
        self, allotment: Allotment, board: SharedBoard, *, answer: str = "", error: AuroraSwarmError | None = None
    ) -> SwarmOutcome:
        """How it ended.

        Args:
            allotment: The macro-tasks.
            board: What was found.
            answer: What came of it.
            error: Why nothing did.
        """
        members = {name: _together(self.objective, each) for name, each in self._outcomes.items()}
        records = tuple(self._record(task) for task in allotment.tasks.values())
        missing = [
            f"Not in the answer: {each.spec.title!r} ({each.error.kind if each.error else each.state})."
            for each in records
            if not each.ok
        ]
        return SwarmOutcome(
            objective=self.objective,
            answer=answer,
            tasks=records,
            usage=sum((each.usage for each in members.values()), self.usage),
            error=error,
            notes=(*self.notes, *missing, *map(_difference, _conflicts(board))),
            members=members,
        )

    def _record(self, task: Macro) -> TaskRecord:
        outcome = self._answers.get(task.spec.id)
        result: AgentResult[Any] | None = None
        if outcome is not None:
            text, usage = outcome.answer, outcome.usage
            result = AgentResult(0, task.spec.id, ok=True, output=text, error=None, text=text, usage=usage)
        return TaskRecord(
            id=task.spec.id,
            spec=task.spec,
            state=task.state,
            worker=task.winner or (task.tried[-1] if task.tried else ""),
            attempts=len(task.tried),
            result=result,
            error=None if outcome is not None else task.error,
            history=tuple(task.history),
        )


def why_nothing(allotment: Allotment) -> AuroraSwarmError:
    """Why no macro-task has an answer: the first reason that there is."""
    errors = (task.error for task in allotment.tasks.values() if task.error is not None)
    return next(errors, None) or PlanError("no macro-task was worked on", remedy="see whether the swarms are up")


def one_by_one(found: Sequence[tuple[str, str]]) -> str:
    """Answers one after the other, each below its title."""
    return "\n\n".join(f"{title}\n\n{text}" for title, text in found)


def _conflicts(board: SharedBoard) -> list[View]:
    try:
        return board.conflicts()
    except CallbackError:
        return []  # it is the error of the outcome already


def _together(objective: str, outcomes: Sequence[SwarmOutcome]) -> SwarmOutcome:
    """How a swarm's part ended that worked on several macro-tasks."""
    if len(outcomes) == 1:
        return outcomes[0]
    answers = [each.answer for each in outcomes if each.ok]
    members: Mapping[str, SwarmOutcome] = {name: each for one in outcomes for name, each in one.members.items()}
    return SwarmOutcome(
        objective=objective,
        answer="\n\n".join(answers),
        tasks=tuple(task for each in outcomes for task in each.tasks),
        usage=sum((each.usage for each in outcomes), Usage()),
        error=None if answers else outcomes[-1].error,
        notes=tuple(note for each in outcomes for note in each.notes),
        members=members,
    )


def _difference(view: View) -> str:
    """A sentence on what authors differ in, and whose word was taken."""
    said = "; ".join(
        f"{entry.who} says {shortened(' '.join(entry.value.split()), SHOWN_CHARS)!r} (version {entry.version})"
        for entry in view.contenders
    )
    return f"The swarms differ on {view.key!r}: {said}. By the rule {view.rule!r} that of {view.who} was taken."
