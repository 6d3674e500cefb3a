"""A function that answers: for tests, for chat programs, for whatever else reaches a person."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

import msgspec

from aurora_swarm.agents.endings import endable
from aurora_swarm.errors import CallbackError
from aurora_swarm.swarms.human.desk import Desk
from aurora_swarm.swarms.human.questions import Answer, Question
from aurora_swarm.tools.threads import ToolThreads

Callback = Callable[[Question], Answer | None] | Callable[[Question], Awaitable[Answer | None]]

_SPARE_S = 5.0


class CallbackHuman:
    """Asks by calling a function with each `Question`.

    A plain function runs on a thread, a coroutine function on the loop. What it returns is the answer. After an invalid
    one it is called again, with `Question.problem` set. When it returns None, the answer is to come from elsewhere,
    through `desk.submit`. What it returns after the deadline, or after the question was withdrawn, is dropped; a
    coroutine is cancelled then.

    Args:
        function: Called for each question, and any number of times at once.
        max_tries: Calls for one question at most; then nobody answers it.

    Attributes:
        desk: The open questions, for answers from elsewhere.
    """

    def __init__(self, function: Callback, *, max_tries: int = 3) -> None:
        self.desk = Desk()
        self._function = function
        self._max_tries = max_tries

    async def ask(self, question: Question) -> Answer:
        """As `aurora_swarm.swarms.human.port.Human.ask`."""
        return await self.desk.ask_while(question, self._answer(question))

    async def _answer(self, question: Question) -> None:
        for _ in range(self._max_tries):
            try:
                given = await self._called(question)
            except Exception as error:  # noqa: BLE001 - a function of the user's may raise anything
                self.desk.fail(question.id, CallbackError(f"the callback raised {type(error).__name__}: {error}"))
                return
            if given is None:
                return
            receipt = self.desk.submit(question.id, given)
            if receipt.state != "invalid":
                return
            question = msgspec.structs.replace(question, problem=receipt.text)
        self.desk.give_up(question.id, f"no valid answer came in {self._max_tries} calls of the callback")

    async def _called(self, question: Question) -> Answer | None:
        function = self._function
        if inspect.iscoroutinefunction(function):
            given: Answer | None = await endable(function(question))
            return given
        threads = ToolThreads(1)
        try:
            # The desk ends the question on time; this only bounds what nobody waits for.
            returned = await threads.run(lambda: function(question), question.deadline_s + _SPARE_S)
        finally:
            threads.close()
        return await endable(returned) if inspect.isawaitable(returned) else returned
