"""What a swarm tells of itself while it works, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from aurora_swarm.swarms.control import Controls
from aurora_swarm.swarms.work import SwarmOutcome, TaskRecord, TaskSpec


class SwarmBegan(msgspec.Struct, frozen=True):
    """A run began; always the first.

    Args:
        objective: What it pursues.
        controls: Steers it until it ends.
    """

    objective: str
    controls: Controls


class PlanMade(msgspec.Struct, frozen=True):
    """The objective is split.

    Args:
        tasks: In an order in which they can be worked on.
        notes: What was wrong with the plan and how it was mended, in sentences.
    """

    tasks: tuple[TaskSpec, ...]
    notes: tuple[str, ...] = ()


class TasksAdded(msgspec.Struct, frozen=True):
    """A result brought about further tasks.

    Args:
        tasks: What was added to the board.
        parent: Id of the task whose result it was.
    """

    tasks: tuple[TaskSpec, ...]
    parent: str


class TaskEnded(msgspec.Struct, frozen=True):
    """A task is final.

    Args:
        record: How it ended.
    """

    record: TaskRecord


class WorkersScaled(msgspec.Struct, frozen=True):
    """More or fewer workers from now on.

    Args:
        workers: How many.
    """

    workers: int


class Consolidating(msgspec.Struct, frozen=True):
    """Answers become one.

    Args:
        answers: How many.
    """

    answers: int


class SwarmEnded(msgspec.Struct, frozen=True):
    """The run is over; always the last.

    Args:
        outcome: How it ended.
    """

    outcome: SwarmOutcome


SwarmEvent = SwarmBegan | PlanMade | TasksAdded | TaskEnded | WorkersScaled | Consolidating | SwarmEnded

OnEvent = Callable[[SwarmEvent], None]


class Listeners:
    """Who is told; one that raises is not told again, and harms nobody.

    Args:
        *listeners: None among them stands for nobody.
    """

    def __init__(self, *listeners: OnEvent | None) -> None:
        self._listeners = [listener for listener in listeners if listener is not None]
        self.notes: list[str] = []

    def tell(self, event: SwarmEvent) -> None:
        """Tell all of them."""
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - code of the user's, which may raise anything
                self._listeners.remove(listener)
                self.notes.append(f"on_event raised {type(error).__name__} and was not called again")
