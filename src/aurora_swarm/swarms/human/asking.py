"""The tool by which a model asks a person: ``ask_human``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from aurora_swarm.swarms.human.port import Human
from aurora_swarm.swarms.human.questions import Answer, Question
from aurora_swarm.swarms.ids import new_id
from aurora_swarm.tools.definition import Tool

_SPARE_S = 5.0
"""The question's own deadline ends the wait; the tool's is only there for a `Human` that does not keep it."""


Option = Annotated[str, Field(max_length=100)]


class AskArguments(BaseModel):
    """Parameters of ``ask_human``."""

    model_config = ConfigDict(extra="forbid")
    question: str = Field(description="One clear question.", min_length=1, max_length=300)
    options: list[Option] = Field(
        default_factory=list, description="What to choose from; leave it empty for an open question.", max_length=10
    )


class Asker:
    """Asks on behalf of one worker.

    Args:
        human: Who answers.
        worker: Who asks, as people call it.
        deadline_s: Seconds for an answer.
        default: Taken when none came; None to fail then.
    """

    def __init__(self, human: Human, worker: str, *, deadline_s: float, default: Answer | None) -> None:
        self.deadline_s = deadline_s
        self.open = 0
        self._human = human
        self._worker = worker
        self._default = default

    async def ask(self, text: str, options: Sequence[str]) -> Answer:
        """Have a question answered; as `Human.ask`."""
        choice = tuple(dict.fromkeys(option.strip() for option in options if option.strip()))
        question = Question(
            id=new_id(),
            worker=self._worker,
            text=text,
            options=choice,
            kind="choice" if choice else "text",
            default=self._default,
            deadline_s=self.deadline_s,
        )
        self.open += 1
        try:
            return await self._human.ask(question)
        finally:
            self.open -= 1


class AskTool(Tool[..., Any]):
    """A tool that asks a person: offered to all workers alike; bound to one of them by `of`."""

    asker: Asker | None = None

    def of(self, asker: Asker) -> AskTool:
        """This tool for one worker."""
        bound = copy.copy(self)
        bound.asker = asker
        bound.timeout_s = asker.deadline_s + _SPARE_S
        return bound

    def call_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the model gave, and who asks."""
        return {**values, "asker": self.asker}


async def _ask_human(question: str, options: list[str], asker: Asker) -> Answer:
    return await asker.ask(question, options)


ASK_HUMAN = AskTool(
    _ask_human,
    name="ask_human",
    description="Ask a person what you cannot find out yourself, and wait for the answer.",
    arguments=AskArguments,
    effect="effect",
    max_chars=10_000,
)
