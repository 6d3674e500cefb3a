"""One run of tasks: the board, the crew and the leases, led to their end; and how it is steered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.swarms.control import Controls, ItemStatus, SwarmStatus
from aurora_swarm.swarms.mind import Mind
from aurora_swarm.swarms.work import TaskRecord, TaskSpec
from aurora_swarm.values.reply import Usage


class Session(Controls):
    """Tasks under way, from `Orchestrator.open`.

    Attributes:
        id: The run's id.
        mind: Whom the workers ask; planners and reducers may ask it too.
        purse: Out of which all of it is paid; None for no bound.
        phase: ``planning``, ``working``, ``consolidating`` or ``ended``; set by who leads the run.
    """

    id: str
    mind: Mind
    purse: Purse | None
    phase: str

    def add(self, spec: TaskSpec) -> str:
        """Put a task on the board; also while the run is under way. Returns its id.

        Raises:
            UsageError: It builds on a task that is not there, or its id is taken.
        """
        raise NotImplementedError

    def scale(self, nodes: int) -> None:
        """Have so many workers from now on. Those that are too many leave after the task that they have."""
        raise NotImplementedError

    def results(self) -> AsyncIterator[TaskRecord]:
        """Every task once when it is final, in order of time; ends when none is open."""
        raise NotImplementedError

    def records(self) -> tuple[TaskRecord, ...]:
        """All tasks in the order in which they were added."""
        raise NotImplementedError

    @property
    def usage(self) -> Usage:
        """Tokens of all attempts that came back."""
        raise NotImplementedError

    def status(self) -> SwarmStatus:
        """The run at this moment."""
        raise NotImplementedError

    def items(
        self, *, kind: Literal["task", "worker"] | None = None, state: str | None = None, limit: int = 100
    ) -> list[ItemStatus]:
        """Tasks and workers, the newest first."""
        raise NotImplementedError

    def item(self, id: str) -> ItemStatus:  # noqa: A002
        """One of them."""
        raise NotImplementedError

    def pause(self, id: str) -> None:  # noqa: A002
        """As of `Controls`."""
        raise NotImplementedError

    def resume(self, id: str) -> None:  # noqa: A002
        """As of `Controls`."""
        raise NotImplementedError

    def cancel(self, id: str) -> None:  # noqa: A002
        """As of `Controls`."""
        raise NotImplementedError

    def requeue(self, id: str) -> None:  # noqa: A002
        """As of `Controls`."""
        raise NotImplementedError

    def steer(self, id: str, text: str) -> None:  # noqa: A002
        """As of `Controls`."""
        raise NotImplementedError
