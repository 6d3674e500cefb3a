"""A leader distributes a task over workers, collects what they bring, and makes one answer of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.spec import Schema
from aurora_swarm.errors import AuroraSwarmError
from aurora_swarm.patterns.quorum import Quorum, least
from aurora_swarm.patterns.scatter_gather import scatter_gather
from aurora_swarm.swarms.architectures.base import Architecture, check_some
from aurora_swarm.swarms.architectures.outcome import ArchitectureOutcome
from aurora_swarm.swarms.architectures.roles import Role
from aurora_swarm.swarms.architectures.session import OnPart, Session
from aurora_swarm.swarms.architectures.showing import READ_AS_DATA, literal, material
from aurora_swarm.swarms.mind import Rein
from aurora_swarm.values.gathered import Gathered

PLAN = (
    "{task}\n\nDivide this among {workers} workers who do not see each other. Give each one a part that can be done "
    "alone."
)
PROCESS = "{task}\n\nYour workers brought these results.\n<answers>\n{{responses}}\n</answers>\n{note} Give the answer."
MOST_CHARACTERS = 400
"""Of the instructions for one part; a small model would not end otherwise."""


class WorkerAgent(Role, frozen=True):
    """Who does one part at a time."""

    def prompt(self, task: str, part: str) -> str:
        """What it is told: the task, the same for all workers, and then its own part."""
        return f"{task}\n\nYour part:\n{material(part)}"


class LeaderAgent(Role, frozen=True):
    """Who distributes, collects and processes.

    Args:
        merge: Makes the answer of the task and the workers' answers, in place of the model: for results that only need
            to be put together or looked through. What it raises is raised by the run.
    """

    merge: Callable[[str, Gathered], str] | None = None

    async def distribute(
        self, session: Session, task: str, workers: int, fewest: int = 1
    ) -> tuple[list[str], AuroraSwarmError | None]:
        """Parts of a task, from `fewest` to one for each worker; none, and why, where no plan came."""
        text = {"type": "string", "maxLength": MOST_CHARACTERS}
        parts = {"type": "array", "items": text, "minItems": fewest, "maxItems": workers}
        schema: dict[str, Any] = {"type": "object", "properties": {"parts": parts}, "required": ["parts"]}
        prompt = PLAN.format(task=task, workers=workers)
        plan = await session.think(self, "distribute", self.thought(prompt, schema))
        return (list(plan.output["parts"]), None) if plan.ok else ([], plan.error)

    async def collect(
        self, session: Session, workers: Sequence[WorkerAgent], task: str, parts: Sequence[str], schema: Schema
    ) -> Gathered:
        """What workers make of the parts, in their order; each part goes to the next worker, round and round."""
        prompts = [workers[n % len(workers)].prompt(task, part) for n, part in enumerate(parts)]
        return await scatter_gather(session.panel(workers, "work", schema), prompts)

    async def process(
        self, session: Session, task: str, results: Gathered, needed: int, schema: Schema
    ) -> ArchitectureOutcome:
        """The answer, where as many results are in it as are needed."""
        if self.merge is not None and results.n_ok >= needed:
            return session.outcome(self.merge(task, results), n_ok=results.n_ok, n_failed=results.n_failed)
        prompt = PROCESS.format(task=literal(task), note=READ_AS_DATA)
        told = await session.fold(session.panel([self], "process", schema), prompt, results, needed)
        return session.outcome(told.text, n_ok=told.n_ok, n_failed=told.n_failed, error=told.error)


class Hierarchical(Architecture, frozen=True):
    """One leader, and workers who see only their own part.

    Args:
        leader: Who distributes and processes.
        workers: Who work.
        schema: What the answer is constrained to.
        part_schema: What each worker's answer is constrained to.
        quorum: How many parts must be in the answer, as a number or as a share of them.

    Raises:
        UsageError: There are no workers.
    """

    leader: LeaderAgent
    workers: tuple[WorkerAgent, ...]
    schema: Schema = None
    part_schema: Schema = None
    quorum: Quorum = 0.5

    def __post_init__(self) -> None:
        check_some(self.workers, "workers")

    @property
    def agents(self) -> Sequence[Role]:
        """The leader, then the workers."""
        return (self.leader, *self.workers)

    async def run(
        self,
        task: str,
        parts: Sequence[str] | None = None,
        *,
        purse: Purse | None = None,
        rein: Rein | None = None,
        on_part: OnPart | None = None,
    ) -> ArchitectureOutcome:
        """Work on a task.

        Args:
            task: What every worker is told, and the leader.
            parts: What is worked on, a part by a worker, such as passages of a text; the leader makes them when None.
            purse: As for `Architecture.run`.
            rein: As for `Architecture.run`.
            on_part: As for `Architecture.run`.

        Returns:
            The leader's answer and everything that was said.

        Raises:
            UsageError: A model cannot be opened, `parts` is empty, or the quorum cannot be met. Nothing was sent.
        """
        async with self.session(purse, rein, on_part) as session:
            return await self.work(session, task, parts)

    async def work(self, session: Session, task: str, parts: Sequence[str] | None = None) -> ArchitectureOutcome:
        """Distribute, collect, process."""
        check_some(self.workers if parts is None else parts, "parts")
        needed = least(self.quorum, len(self.workers if parts is None else parts))
        if parts is None:
            fewest = 1 if isinstance(self.quorum, float) else self.quorum
            parts, error = await self.leader.distribute(session, task, len(self.workers), fewest)
            if error is not None:
                return session.outcome(error=error, n_failed=len(self.workers))
            needed = least(self.quorum, len(parts))
        results = await self.leader.collect(session, self.workers, task, parts, self.part_schema)
        if results.n_ok < needed:
            return session.short(results, needed)
        return await self.leader.process(session, task, results, needed, self.schema)
