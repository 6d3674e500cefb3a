"""A worker: an agent that is given tasks, and may ask a person."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.batch.hoisting import fenced
from aurora_swarm.errors import AuroraSwarmError
from aurora_swarm.patterns.fan_in import cut
from aurora_swarm.swarms.agent import Agent
from aurora_swarm.swarms.human.asking import ASK_HUMAN, Asker
from aurora_swarm.swarms.human.port import Human
from aurora_swarm.swarms.human.questions import Answer
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.swarms.mind import Mind, Rein
from aurora_swarm.swarms.work import Assignment
from aurora_swarm.tools.texts import estimated_tokens
from aurora_swarm.values.outcome import AgentResult

GIVEN_TOKENS = 2_000
"""Tokens of a prompt for all the answers that a task builds on together."""

LEAST_GIVEN = 32
"""Tokens that each of them is left at least."""

_TITLE_CHARS = 100


class Worker:
    """Works on tasks with an agent. Holds nothing of one task when it begins the next.

    Several tasks may be given to it at once; they know nothing of each other. Any number of workers may share an agent.

    Args:
        agent: What it thinks and acts with.
        human: Whom it may ask; it then has the tool ``ask_human``. None for nobody.
        name: What people call it; the agent's name when empty.
        id: Its id; one is made when empty.
        answer_within_s: Seconds that a person has for an answer.
        default_answer: What it is told when none came; None for a failed tool call.
        given_tokens: Tokens of a prompt for the answers that a task builds on, together.

    Attributes:
        id: Unique, and sorted by when the worker was made.
        name: See there.
        agent: See there.
        skills: What its agent is good at.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        human: Human | None = None,
        name: str = "",
        id: str | None = None,  # noqa: A002 - what it is called everywhere
        answer_within_s: float = 300.0,
        default_answer: Answer | None = None,
        given_tokens: int = GIVEN_TOKENS,
    ) -> None:
        self.agent = agent
        self.id = id or new_id()
        self.name = name or agent.name
        self.skills = frozenset(agent.skills)
        self._given_tokens = given_tokens
        self._asker: Asker | None = None
        if human is not None:
            self._asker = Asker(human, self.name, deadline_s=answer_within_s, default=default_answer)
        self._tools = () if self._asker is None else (ASK_HUMAN.of(self._asker),)

    def __repr__(self) -> str:
        return f"Worker({self.name}, {self.id})"

    @property
    def asking(self) -> int:
        """Questions that it waits for a person to answer: it is not stalled meanwhile, and holds up no model."""
        return 0 if self._asker is None else self._asker.open

    async def work(
        self, assignment: Assignment, mind: Mind, *, purse: Purse | None = None, rein: Rein | None = None
    ) -> AgentResult[Any]:
        """Work on one task.

        The prompt is what all workers are told, then what the task builds on, each answer fenced, then the task. What
        is shared comes first, the same to the byte.

        Args:
            assignment: The task.
            mind: Whom to ask.
            purse: Bounds what is spent.
            rein: As for `Mind.think`.

        Returns:
            The result; whatever failed is in it. Cancelling ends it, with what it asked a person.
        """
        context = shared_part(assignment)
        prompt = context + own_part(assignment, self._given_tokens)
        try:
            return await self.agent.perform(
                prompt,
                mind,
                who=self.id,
                task=assignment.task,
                shared=context,
                schema=assignment.schema,
                tools=self._tools,
                timeout_s=assignment.timeout_s,
                purse=purse,
                rein=rein,
            )
        except AuroraSwarmError as error:
            return AgentResult(index=0, key=self.id, ok=False, output=None, error=error)


def shared_part(assignment: Assignment) -> str:
    """How the prompt begins for every worker of the swarm; pure."""
    return f"{fenced('context', assignment.context)}\n\n" if assignment.context else ""


def own_part(assignment: Assignment, given_tokens: int) -> str:
    """What follows it: what the task builds on, cut to so many tokens, and the task; pure."""
    parts = within(assignment.given, given_tokens)
    if len(parts) < len(assignment.given):
        parts.append(f"[{len(assignment.given) - len(parts)} further results are left out]")
    wanted = assignment.instructions or assignment.title
    titled = assignment.title and wanted != assignment.title
    parts.append(f"Task: {assignment.title}\n{wanted}" if titled else f"Task: {wanted}")
    return "\n\n".join(parts)


def within(given: Sequence[tuple[str, str]], most: int) -> list[str]:
    """Answers, each fenced and titled, cut so that together they have about so many tokens at most; pure.

    Short ones stay whole, and what they leave goes to the long ones. Of more answers than fit with `LEAST_GIVEN` tokens
    each, the first are kept.
    """
    names = [f"result of: {_title(title)}" for title, _ in given]
    fences = [estimated_tokens(fenced(name, "")) for name in names]
    needed = itertools.accumulate(fence + LEAST_GIVEN for fence in fences)
    count = sum(1 for _ in itertools.takewhile(lambda total: total <= most, needed))
    sizes = [estimated_tokens(text) for _, text in given[:count]]
    room = _level(sizes, most - sum(fences[:count]))
    texts = [cut(text, size, room) for (_, text), size in zip(given, sizes, strict=False)]
    return [fenced(name, text) for name, text in zip(names, texts, strict=False)]


def _level(sizes: Sequence[int], most: int) -> int:
    """The size to which all must be cut so that their sum is at most `most`."""
    left = most
    for place, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - place)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def _title(text: str) -> str:
    return re.sub(r"[\s=]+", " ", text).strip()[:_TITLE_CHARS]
