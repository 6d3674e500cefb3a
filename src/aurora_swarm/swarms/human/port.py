"""The seam to whoever can answer a question: a person, by whatever way."""

from __future__ import annotations

from typing import Protocol

from aurora_swarm.swarms.human.questions import Answer, Question


class Human(Protocol):
    """Whom workers may ask. Any number of them may ask at once."""

    async def ask(self, question: Question) -> Answer:
        """Have a question answered.

        Args:
            question: What is asked.

        Returns:
            The first valid answer; the question's default when none came in time, or nobody can answer any more.
            Cancelling withdraws the question.

        Raises:
            UnansweredError: As there is no default.
            CallbackError: Code of the user's, which answers or checks answers, raised.
            UsageError: A question with this id is open already.
        """
