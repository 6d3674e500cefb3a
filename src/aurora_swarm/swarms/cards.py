"""What stands on a task board: a card for each task, and the commands that follow from events. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from aurora_swarm.errors import AuroraSwarmError, UsageError
from aurora_swarm.swarms.work import Moment, TaskRecord, TaskSpec, TaskState
from aurora_swarm.values.outcome import AgentResult


class Stop(msgspec.Struct, frozen=True, gc=False):
    """Whoever holds this lease has lost the task: end its work.

    Args:
        lease: Its number.
    """

    lease: int


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A task has become final.

    Args:
        task: Its id.
    """

    task: str


Command = Stop | Ended


class Card:
    """A task on the board. Read by others, changed by the board alone."""

    __slots__ = (
        "after", "attempts", "dependents", "error", "had", "has_fallen", "history", "is_paused", "lease", "missing",
        "result", "since", "skills", "spec", "state", "worker",
    )  # fmt: skip

    def __init__(self, spec: TaskSpec, missing: int) -> None:
        self.spec = spec
        self.skills = frozenset(spec.skills)
        self.after = tuple(dict.fromkeys(spec.after))
        self.missing = missing
        self.dependents: list[str] = []
        self.state: TaskState | None = None
        self.is_paused = False
        self.lease = 0
        self.worker = ""
        self.attempts = 0
        self.had: list[str] = []
        self.result: AgentResult[Any] | None = None
        self.error: AuroraSwarmError | None = None
        self.has_fallen = False
        self.since = 0.0
        self.history: list[Moment] = []

    @property
    def id(self) -> str:
        """The task's id."""
        return self.spec.id

    def record(self) -> TaskRecord:
        """The task with all that became of it, frozen."""
        assert self.state is not None
        return TaskRecord(
            id=self.spec.id,
            spec=self.spec,
            state=self.state,
            worker=self.worker,
            attempts=self.attempts,
            result=self.result,
            error=self.error,
            history=tuple(self.history),
        )


def in_order(specs: Iterable[TaskSpec]) -> list[TaskSpec]:
    """Tasks in an order in which each comes behind those that it builds on, otherwise as they are.

    Raises:
        UsageError: There is none.
    """
    new = {spec.id: spec for spec in specs}
    ordered: dict[str, TaskSpec] = {}
    for first in new.values():
        way = [(first, iter(first.after))]
        on_way = {first.id: None}
        while way:
            spec, rest = way[-1]
            if spec.id in ordered or (task := next((t for t in rest if t in new and t not in ordered), None)) is None:
                ordered.setdefault(spec.id, spec)
                way.pop()
                on_way.pop(spec.id, None)
            elif task in on_way:
                circle = " <- ".join([*on_way, task])
                raise UsageError(f"tasks build on each other in a circle: {circle}", remedy="take one of them out")
            else:
                on_way[task] = None
                way.append((new[task], iter(new[task].after)))
    return list(ordered.values())
