"""What all architectures have: a run that opens its agents' models, and closes them whatever ends it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import UsageError
from aurora_swarm.swarms.architectures.outcome import ArchitectureOutcome
from aurora_swarm.swarms.architectures.roles import Role
from aurora_swarm.swarms.architectures.session import OnPart, Session, opened
from aurora_swarm.swarms.mind import Rein


def check_some(members: Sequence[object], what: str) -> None:
    """Make sure, before any run, that somebody takes part.

    Raises:
        UsageError: Nobody does.
    """
    if not members:
        raise UsageError(f"there are no {what}", remedy="give one at least")


class Architecture(msgspec.Struct, frozen=True):
    """A way for agents to work on a task. Frozen, so that any number of runs may share it."""

    @property
    @abstractmethod
    def agents(self) -> Sequence[Role]:
        """Everyone who takes part."""

    @abstractmethod
    async def work(self, session: Session, task: str) -> ArchitectureOutcome:
        """Work on a task, within a session that is open."""

    async def run(
        self, task: str, *, purse: Purse | None = None, rein: Rein | None = None, on_part: OnPart | None = None
    ) -> ArchitectureOutcome:
        """Work on a task.

        Args:
            task: What is to be done, with all that is needed for it.
            purse: Out of which everything is paid: each call is reserved in it before and settled after.
            rein: Awaited before each call to a model: it may hold it up, or raise an `AgentError` that ends the agent.
            on_part: Told of each contribution as it comes.

        Returns:
            The answer and everything that was said. What fails is in it, not raised; no error's text goes to an agent.
            Cancelling cancels every call under way.

        Raises:
            UsageError: A model cannot be opened, or a quorum cannot be met. Nothing was sent.
        """
        async with self.session(purse, rein, on_part) as session:
            return await self.work(session, task)

    @asynccontextmanager
    async def session(
        self, purse: Purse | None = None, rein: Rein | None = None, on_part: OnPart | None = None
    ) -> AsyncIterator[Session]:
        """A run's session; arguments as for `run`."""
        async with opened(self.agents) as minds:
            yield Session(minds, purse, rein, on_part)
