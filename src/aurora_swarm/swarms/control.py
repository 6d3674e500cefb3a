"""What can be done to work under way, and what is shown of it. Every answer is immediate: nothing here awaits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from aurora_swarm.values.reply import Usage


class ItemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One task, or one worker, as it is shown.

    Args:
        kind: Which of them it is.
        id: Its id.
        title: A task's title, a worker's name.
        state: A task's `TaskState`; of a worker ``idle``, ``working``, ``paused`` or ``gone``.
        partner: Who works on the task, or what the worker works on; empty for nobody and nothing.
        attempts: How often the task was given out, or how many tasks the worker was given.
        seconds: How long it has been in this state.
        note: The latest line of its history.
    """

    kind: Literal["task", "worker"]
    id: str
    title: str
    state: str
    partner: str = ""
    attempts: int = 0
    seconds: float = 0.0
    note: str = ""


class SwarmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A swarm at one moment; taken in constant time, however many tasks there are.

    Args:
        id: The run's id.
        name: The swarm's name.
        objective: What it pursues; empty for a list of tasks.
        phase: ``planning``, ``working``, ``consolidating``, ``paused`` or ``ended``.
        tasks: How many are in each state.
        workers: How many are in each state.
        usage: Tokens spent so far.
        seconds: Since it began.
    """

    id: str
    name: str
    objective: str
    phase: str
    tasks: Mapping[str, int]
    workers: Mapping[str, int]
    usage: Usage
    seconds: float


class Controls(Protocol):
    """Steers one run. An id is that of a task, of a worker, or of the run itself, which means all of it.

    Every method is idempotent, takes effect before it returns, and raises `UsageError` for an id that nobody has, or
    for what cannot be done to it (resuming what is final); the sentence says what can.
    """

    id: str

    def status(self) -> SwarmStatus:
        """The run at this moment."""

    def items(
        self, *, kind: Literal["task", "worker"] | None = None, state: str | None = None, limit: int = 100
    ) -> list[ItemStatus]:
        """Tasks and workers, the newest first.

        Args:
            kind: Only those.
            state: Only those in it.
            limit: At most so many.
        """

    def item(self, id: str) -> ItemStatus:  # noqa: A002 - what it is called everywhere
        """One of them."""

    def pause(self, id: str) -> None:  # noqa: A002
        """No further call to a model begins for it; what is under way is let finish, leases are held."""

    def resume(self, id: str) -> None:  # noqa: A002
        """Go on."""

    def cancel(self, id: str) -> None:  # noqa: A002
        """End it.

        A task is cancelled, with those that build on it; a worker is sent home and its task given to another; the run
        stops, and answers from what is done.
        """

    def requeue(self, id: str) -> None:  # noqa: A002
        """Take a task from its worker, or take up again one that failed or was cancelled; the attempts start anew."""

    def steer(self, id: str, text: str) -> None:  # noqa: A002
        """Say something to whoever works on it, which it reads before its next call to the model."""
