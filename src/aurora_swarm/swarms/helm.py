"""The controls of a swarm's run: those of its session, and reins on whoever plans and consolidates."""

from __future__ import annotations

from typing import Literal

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.swarms.control import Controls, ItemStatus, SwarmStatus
from aurora_swarm.swarms.reins import TaskRein
from aurora_swarm.swarms.session import Session


class Helm(Controls):
    """Steers one run. What is done to the run holds for plan, reviews and consolidation as it does for workers.

    Args:
        session: Where the tasks are.
        purse: Pays for what is said to whoever plans and consolidates.

    Attributes:
        id: The run's id.
        planning: Awaited before each call of whoever plans; refuses once the run is cancelled.
        consolidating: Awaited before each call of whoever consolidates, which also a cancelled run does.
    """

    def __init__(self, session: Session, purse: Purse | None) -> None:
        self.id = session.id
        self._session = session
        self._said: list[str] = []
        self.planning = TaskRein((), (self._said,), _nothing, purse)
        self.consolidating = TaskRein((), (self._said,), _nothing, purse)

    @property
    def is_cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self.planning.is_ended

    def status(self) -> SwarmStatus:
        """As of the session."""
        return self._session.status()

    def items(
        self, *, kind: Literal["task", "worker"] | None = None, state: str | None = None, limit: int = 100
    ) -> list[ItemStatus]:
        """As of the session."""
        return self._session.items(kind=kind, state=state, limit=limit)

    def item(self, id: str) -> ItemStatus:  # noqa: A002 - what it is called everywhere
        """As of the session."""
        return self._session.item(id)

    def pause(self, id: str) -> None:  # noqa: A002
        """As of the session; while the run is paused, its mind asks nothing for anyone."""
        self._session.pause(id)

    def resume(self, id: str) -> None:  # noqa: A002
        """As of the session."""
        self._session.resume(id)

    def cancel(self, id: str) -> None:  # noqa: A002
        """As of the session; of the run, nothing is planned any more, and what is done becomes the answer."""
        self._session.cancel(id)
        if id == self.id:
            self.planning.is_ended = True

    def requeue(self, id: str) -> None:  # noqa: A002
        """As of the session."""
        self._session.requeue(id)

    def steer(self, id: str, text: str) -> None:  # noqa: A002
        """As of the session; what is said to the run, whoever plans and consolidates hears too."""
        self._session.steer(id, text)
        if id == self.id:
            self._said.append(text)


def _nothing() -> None:
    """Nobody watches over whoever plans: the run itself waits for it."""
