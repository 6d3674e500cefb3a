"""The hold on work under way: it can be stopped before its next call to the model, and told something then.

What is said becomes a user message of the conversation, at the place where it was said, and stays there in all later
calls, so that the prefix that an engine has cached stays a prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import takewhile

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import TaskCancelledError
from aurora_swarm.values.call import Call, Sampling
from aurora_swarm.values.message import Message


class Gate:
    """What work passes before each call to the model; open at first."""

    def __init__(self) -> None:
        self._opened: asyncio.Event | None = None

    @property
    def is_shut(self) -> bool:
        """Whether nobody passes."""
        return self._opened is not None

    def shut(self) -> None:
        """Let nobody pass."""
        self._opened = self._opened or asyncio.Event()

    def open(self) -> None:
        """Let those pass who wait, and all who come."""
        if self._opened is not None:
            self._opened.set()
            self._opened = None

    async def passed(self) -> None:
        """Wait until it is open."""
        while self._opened is not None:
            await self._opened.wait()


async def all_passed(gates: Sequence[Gate]) -> None:
    """Wait until all of them are open at once."""
    while shut := next((gate for gate in gates if gate.is_shut), None):
        await shut.passed()


class TaskRein:
    """The rein of one worker on one task; awaited before each of its calls to the model.

    Args:
        gates: All must be open.
        said: What was and will be said, by where it comes from; only ever added to.
        alive: Called when a call may begin.
        purse: Pays for what is said, at its worst, because the call was reserved without it.

    Attributes:
        is_ended: Set when the worker has lost the task: no further call begins.
    """

    def __init__(
        self, gates: Sequence[Gate], said: Sequence[Sequence[str]], alive: Callable[[], None], purse: Purse | None
    ) -> None:
        self._gates = gates
        self._said = said
        self._alive = alive
        self._purse = purse
        self._placed: dict[tuple[Message, ...], list[tuple[int, int, str]]] = {}
        self.is_ended = False

    async def __call__(self, call: Call) -> Call:
        """The call as it may be made.

        Raises:
            TaskCancelledError: The task is somebody else's by now.
            BudgetError: The purse cannot pay for what was said.
        """
        await all_passed(self._gates)
        if self.is_ended:
            raise TaskCancelledError("the task was taken from this worker")
        self._alive()
        return self._told(call) if any(self._said) else call

    def _told(self, call: Call) -> Call:
        """The call with what was said, each text where the conversation stood when it was read first."""
        messages = call.messages
        # One task may be worked on in several conversations; they begin differently.
        beginning = tuple(takewhile(lambda message: message.role not in {"assistant", "tool"}, messages))
        placed = self._placed.setdefault(beginning, [])
        for source, texts in enumerate(self._said):
            known = sum(place[1] == source for place in placed)
            placed += [(len(messages), source, text) for text in texts[known:]]
        extra = [Message("user", text) for _, _, text in placed]
        self._pay(extra)
        woven: list[Message] = []
        begun = 0
        for (place, _, _), message in zip(placed, extra, strict=True):
            end = _border(messages, place)
            woven += messages[begun:end]
            woven.append(message)
            begun = max(begun, end)
        return msgspec.structs.replace(call, messages=(*woven, *messages[begun:]))

    def _pay(self, extra: Sequence[Message]) -> None:
        if self._purse is not None:
            call = Call(tuple(extra), sampling=Sampling(max_tokens=0))
            _, hold = self._purse.reserve(call, asyncio.get_running_loop().time())
            self._purse.settle(hold, None)


def _border(messages: Sequence[Message], place: int) -> int:
    """The first place from there on that does not part a call of a tool from its answer."""
    place = min(place, len(messages))
    while place < len(messages) and messages[place].role == "tool":
        place += 1
    return place
