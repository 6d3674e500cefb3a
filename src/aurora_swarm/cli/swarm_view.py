"""How a swarm is followed on a terminal: plan, progress, answer, and what failed."""

from __future__ import annotations

import functools
import time
from types import TracebackType
from typing import Any, Self

import msgspec

from aurora_swarm.cli.complaints import complain
from aurora_swarm.cli.exits import Exit, exit_of
from aurora_swarm.cli.heartbeat import PlainProgress, Progress, Silence
from aurora_swarm.cli.voice import clock, counted, one_line, say, tell
from aurora_swarm.swarms.happenings import (
    Consolidating,
    PlanMade,
    SwarmBegan,
    SwarmEnded,
    SwarmEvent,
    TaskEnded,
    TasksAdded,
    WorkersScaled,
)
from aurora_swarm.swarms.pursuit import SIDE_BY_SIDE
from aurora_swarm.swarms.work import SwarmOutcome, TaskRecord, TaskSpec

_WIDTH = 100


class SwarmView:
    """Says what happens, line by line on stderr, and keeps it for the end.

    Args:
        quiet: Show errors only.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._progress: Progress = Silence() if quiet else PlainProgress(self.describe)
        self._began = time.monotonic()
        self._objective = ""
        self._numbers: dict[str, int] = {}
        self._ended: dict[str, TaskRecord] = {}
        self._workers = 0
        self._phase = ""
        self.outcome: SwarmOutcome | None = None

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """A sentence about what takes time."""
        self._progress.say(text)

    def describe(self) -> str:
        """How far it is; empty before the plan is made."""
        if not self._numbers:
            return ""
        done = sum(record.ok for record in self._ended.values())
        failed = len(self._ended) - done
        lost = f", {failed} failed" if failed else ""
        tasks, workers = counted(len(self._numbers), "task"), counted(self._workers, "worker")
        phase = (
            "looking at results" if self._phase == "working" and failed + done == len(self._numbers) else self._phase
        )
        return f"{phase}: {done} of {tasks} done{lost} | {workers}"

    def show(self, event: SwarmEvent) -> None:
        """Say what happened."""
        self._note(event)
        if not self._quiet:
            for line in _said(event, self._numbers):
                say(f"[{clock(time.monotonic() - self._began)}] {line}" if line[:1] != " " else line)

    @functools.singledispatchmethod
    def _note(self, event: SwarmEvent) -> None:
        """Keep what is needed later."""

    @_note.register
    def _(self, event: SwarmBegan) -> None:
        self._objective, self._phase = event.objective, "planning"
        self._progress.say("planning")

    @_note.register
    def _(self, event: PlanMade) -> None:
        self._phase = "working"
        self._count(event.tasks)

    @_note.register
    def _(self, event: TasksAdded) -> None:
        self._count(event.tasks)

    @_note.register
    def _(self, event: WorkersScaled) -> None:
        self._workers = event.workers

    @_note.register
    def _(self, event: TaskEnded) -> None:
        self._ended[event.record.id] = event.record

    @_note.register
    def _(self, _event: Consolidating) -> None:
        self._phase = "consolidating"

    @_note.register
    def _(self, event: SwarmEnded) -> None:
        self.outcome = event.outcome

    def _count(self, tasks: tuple[TaskSpec, ...]) -> None:
        for task in tasks:
            self._numbers[task.id] = len(self._numbers) + 1

    # -- the end -------------------------------------------------------------------------------------------------

    @property
    def exit_code(self) -> Exit:
        """0 if every task was done, 1 if some were, 3 if there is no answer."""
        outcome = self.outcome
        if outcome is None or not outcome.ok:
            return Exit.ALL_FAILED
        return exit_of(1, outcome.n_failed + any(note.startswith(SIDE_BY_SIDE) for note in outcome.notes))

    def report(self, *, as_json: bool) -> None:
        """The answer, or what is done where the run was interrupted; then what is missing in it."""
        if as_json:
            tell(msgspec.json.encode(self._record()).decode())
        elif self.outcome is None:
            for record in self._ended.values():
                if record.ok:
                    tell(f"# {record.spec.title}\n{record.text}\n")
        elif self.outcome.ok:
            tell(self.outcome.answer)
        self._close()

    def _close(self) -> None:
        if self.outcome is not None and self.outcome.error is not None:
            complain(self.outcome.error)
        for record in self._ended.values():
            if record.error is not None:
                say(f"{record.state} {self._numbers.get(record.id, 0)}. {_failure(record)}")
        if not self._quiet:
            for note in self.outcome.notes if self.outcome is not None else ():
                say(f"note: {note}")
            say(self._summary())

    def _summary(self) -> str:
        outcome = self.outcome
        end = "interrupted" if outcome is None else "finished"
        done = sum(record.ok for record in self._ended.values())
        took_s = time.monotonic() - self._began
        spent = f", {outcome.usage.total_tokens:,} tokens" if outcome is not None else ""
        return f"{end}: {done} of {counted(len(self._numbers), 'task')} done in {took_s:.1f} s{spent}"

    def _record(self) -> dict[str, Any]:
        outcome = self.outcome
        tasks = outcome.tasks if outcome is not None else tuple(self._ended.values())
        return {
            "objective": self._objective,
            "ok": outcome is not None and outcome.ok,
            "interrupted": outcome is None,
            "answer": outcome.answer if outcome is not None else "",
            "error": _error(outcome.error) if outcome is not None else None,
            "notes": outcome.notes if outcome is not None else (),
            "tasks": [_task(record) for record in tasks],
            "usage": msgspec.structs.asdict(outcome.usage) if outcome is not None else None,
            "wall_s": round(time.monotonic() - self._began, 3),
        }


def _said(event: SwarmEvent, numbers: dict[str, int]) -> list[str]:
    """An event in lines; one that begins with a space belongs to the line above."""
    match event:
        case PlanMade(tasks, notes):
            listed = [f"  {_titled(task, numbers)}" for task in tasks]
            return [f"plan: {counted(len(tasks), 'task')}", *listed, *(f"  note: {note}" for note in notes)]
        case TasksAdded(tasks, _):
            return [f"new {_titled(task, numbers)}" for task in tasks]
        case TaskEnded(record):
            number = numbers.get(record.id, 0)
            if not record.ok:
                return [f"{record.state} {number}. {_failure(record)}"]
            return [f"done {number}. {one_line(record.spec.title, _WIDTH)}: {one_line(record.text, _WIDTH)}"]
        case Consolidating(answers):
            return [f"making one answer of {answers}"]
    return []


def _titled(task: TaskSpec, numbers: dict[str, int]) -> str:
    builds_on = ", ".join(str(numbers[each]) for each in task.after if each in numbers)
    return f"{numbers[task.id]}. {one_line(task.title, _WIDTH)}" + (f" (after {builds_on})" if builds_on else "")


def _failure(record: TaskRecord) -> str:
    error = record.error
    why = f"{error.kind}: {one_line(str(error), 200)}" if error is not None else "no reason is known"
    return f"{one_line(record.spec.title, _WIDTH)}: {why}"


def _task(record: TaskRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "title": record.spec.title,
        "instructions": record.spec.instructions,
        "after": record.spec.after,
        "parent": record.spec.parent,
        "state": record.state,
        "worker": record.worker,
        "attempts": record.attempts,
        "answer": record.text,
        "error": _error(record.error),
    }


def _error(error: Any) -> dict[str, str] | None:
    return {"kind": error.kind, "message": str(error)} if error is not None else None
