"""What is worked on in a society, by whom, and how it ended. Pure values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.spec import Schema
from aurora_swarm.errors import AuroraSwarmError
from aurora_swarm.swarms.mind import Mind, Rein
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work as it is put on the board.

    Args:
        title: A few words, for people and for what builds on it.
        instructions: What is to be done; the title when empty.
        id: Its own; one is made when empty.
        skills: What a worker should be good at; a preference where nobody has them all.
        priority: Higher goes first among tasks that are ready.
        after: Ids of tasks whose results it builds on; it is ready when all of them are done.
        schema: What its answer is constrained to; None for text.
        timeout_s: Seconds for one attempt; None for the lease alone.
        parent: Id of the task whose result brought it about; empty for one of the plan.
    """

    title: str
    instructions: str = ""
    id: str = ""
    skills: tuple[str, ...] = ()
    priority: float = 0.0
    after: tuple[str, ...] = ()
    schema: Schema = None
    timeout_s: float | None = None
    parent: str = ""


class TaskState(StrEnum):
    """Where a task is. `DONE`, `FAILED` and `CANCELLED` are final."""

    WAITING = "waiting"
    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED})


class Moment(msgspec.Struct, frozen=True, gc=False):
    """One line of a task's history.

    Args:
        at_s: When, on the clock of the event loop.
        state: What it was from then on.
        worker: Whose doing it was; empty for nobody's.
        note: Why, in words.
    """

    at_s: float
    state: TaskState
    worker: str = ""
    note: str = ""


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A task with all that became of it.

    Args:
        id: The task's.
        spec: What was to be done.
        state: Where it is.
        worker: Who works or worked on it last; empty for nobody.
        attempts: How often it was given out.
        result: What the last attempt came to; only a `DONE` task has one that is ok.
        error: Why there is no answer, once it is final and not done.
        history: Everything that happened to it, in order.
    """

    id: str
    spec: TaskSpec
    state: TaskState
    worker: str = ""
    attempts: int = 0
    result: AgentResult[Any] | None = None
    error: AuroraSwarmError | None = None
    history: tuple[Moment, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether it has an answer."""
        return self.state is TaskState.DONE

    @property
    def text(self) -> str:
        """The answer as text; empty unless it is done. Never the text of an error."""
        return text_of(self.result) if self.result is not None and self.ok else ""


def text_of(result: AgentResult[Any]) -> str:
    """An answer as text: what was said, where that is all of it; else its JSON, as the model wrote it.

    An agent with tools may have to wrap what it says, so its last text is not always its answer.
    """
    return result.output if isinstance(result.output, str) else result.text


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A task as one worker is given it: all that it is told, and nothing of any other worker.

    Args:
        task: The task's id.
        title: Of the task.
        instructions: What is to be done.
        schema: What the answer is constrained to.
        context: What all workers of the swarm are told, equal for all; it goes first, so that engines cache it once.
        given: Answers that it builds on, by the titles of the tasks that they are of; the worker cuts them to what its
            prompt holds.
        timeout_s: Seconds for it; None where somebody else sees to that, as an orchestrator does, because a pause must
            stop the clock.
    """

    task: str
    title: str
    instructions: str = ""
    schema: Schema = None
    context: str = ""
    given: tuple[tuple[str, str], ...] = ()
    timeout_s: float | None = None


class Performer(Protocol):
    """Who works on tasks: `aurora_swarm.swarms.worker.Worker`, or something else with an id and skills."""

    id: str
    skills: frozenset[str]

    async def work(
        self, assignment: Assignment, mind: Mind, *, purse: Purse | None = None, rein: Rein | None = None
    ) -> AgentResult[Any]:
        """Work on one task; whatever fails is in the result. Cancelling ends it.

        Args:
            assignment: The task.
            mind: Whom to ask.
            purse: Bounds what is spent.
            rein: As for `Mind.think`.
        """


class SwarmOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an objective ended.

    Args:
        objective: What was wanted.
        answer: What came of it; empty when `error` is set.
        tasks: Everything that was worked on, in the order of creation.
        usage: Tokens spent on all of it, planning and consolidation included.
        error: Why there is no answer.
        notes: What the reader should know about the answer, in sentences: what was lost, cut short or left out.
        members: Of a hivemind, how each swarm's part ended, by its name.
    """

    objective: str
    answer: str
    tasks: tuple[TaskRecord, ...] = ()
    usage: Usage = Usage()
    error: AuroraSwarmError | None = None
    notes: tuple[str, ...] = ()
    members: Mapping[str, SwarmOutcome] = {}

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def n_ok(self) -> int:
        """Tasks that are done."""
        return self.counts[TaskState.DONE]

    @property
    def n_failed(self) -> int:
        """Tasks that ended otherwise."""
        return len(self.tasks) - self.n_ok

    @property
    def counts(self) -> Counter[TaskState]:
        """How many tasks are in each state."""
        return Counter(task.state for task in self.tasks)


class Member(Protocol):
    """A swarm as a hivemind has it, local or remote.

    Attributes:
        name: Unique within the hivemind.
        about: What it is good at, in a sentence; the hivemind's planner reads it.
    """

    name: str
    about: str

    async def run(self, objective: str | None = None, *, purse: Purse | None = None, context: str = "") -> SwarmOutcome:
        """Pursue an objective to its end.

        Args:
            objective: What is wanted; its own when None.
            purse: Out of which it is paid; None for no bound from above.
            context: What it should know, from other swarms: data, not instructions.

        Returns:
            How it ended; what fails is in it. Cancelling ends all of it.

        Raises:
            MemberLostError: A remote swarm could not be reached, or did not come back.
        """
