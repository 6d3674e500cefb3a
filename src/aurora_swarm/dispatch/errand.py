"""One call, or several that travel together, on the way to an outcome. Pure state; others act on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aurora_swarm.dispatch.admission import AGEING_S, NOBODY, Ticket
from aurora_swarm.dispatch.routing import View
from aurora_swarm.errors import CallError
from aurora_swarm.values.call import Call
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.reply import Reply


class Errand(Ticket):
    """A call's wish for a slot, its attempt under way, and what became of earlier ones; one object per call.

    Args:
        calls: What is asked; several travel in one request.
        view: Where it may go.
        wish: The endpoint to prefer.
        strict: Whether only that one may answer.
        now: When it began.
        task: Who waits for it.

    Attributes:
        index: The endpoint of the attempt under way.
        began: When that attempt was sent.
        on_trial: Whether it was to show that its endpoint is back.
        flying: Whether it is under way.
        deadline: When the errand has used up its time; 0 before its first attempt.
        failures: Attempts that gave no answer.
        error: Why the latest one of them failed that was not cancelled here.
        prize: What was answered: a reply, or a list of parts.
        race: Its rival, once it has one.
    """

    __slots__ = (
        "began", "call", "calls", "cancelling", "deadline", "endpoint",
        "error", "failures", "flying", "index",
        "on_trial", "prize", "race",
        "retries", "task", "timeout_s", "wish",
    )  # fmt: skip

    index: int
    began: float
    on_trial: bool

    def __init__(  # noqa: PLR0917 - one caller, on the hot path, which is also why the base's is not called
        self,
        calls: Sequence[Call],
        view: View,
        wish: int | None,
        strict: bool,
        now: float,
        task: asyncio.Task[Any] | None,
    ) -> None:
        call = calls[0]
        self.view = view
        self.pin = self.wish = wish
        self.strict = strict
        self.since = now
        self.key = now + AGEING_S * call.turns_left
        self.avoid = NOBODY
        self.weight = len(calls)
        self.granted = None
        self.withdrawn = False
        self.notify = None
        self.call = call
        self.calls = calls
        self.task = task
        self.cancelling = task.cancelling() if task is not None else 0
        self.deadline = self.timeout_s = 0.0
        self.endpoint: AgentEndpoint | None = None
        self.failures: tuple[Attempt, ...] = ()
        self.error: CallError | None = None
        self.retries = 0
        self.flying = False
        self.prize: Any = None
        self.race: Race | None = None

    @property
    def only(self) -> int | None:
        """The one endpoint that may answer, if there is one."""
        return self.wish if self.strict else None

    @property
    def patient(self) -> bool:
        """Whether it had better stay where it is, for what it shares with others."""
        return bool(self.call.prefix)

    def renew(self, wish_is_open: bool) -> None:
        """Wish for a slot once more; for the preferred endpoint only while that makes sense."""
        self.granted, self.withdrawn = None, False
        self.pin = self.wish if self.strict or (wish_is_open and self.wish not in self.avoid) else None

    def note(self, index: int, attempt: Attempt) -> None:
        """An attempt gave no answer."""
        self.failures = (*self.failures, attempt)
        self.avoid |= {index}

    def answered(self, now: float) -> Outcome:
        """The outcome of an errand with a prize; that of several calls says who answered, the prize has the parts."""
        reply = self.prize if isinstance(self.prize, Reply) else Reply("")
        return Outcome(reply, None, self.endpoint, self.failures, now - self.since)

    def failed(self, error: CallError, now: float) -> Outcome:
        """The outcome of an errand that nobody answered."""
        return Outcome(None, error, self.endpoint, self.failures, now - self.since)


class Race:
    """The rival of an errand's attempt.

    Args:
        task: Who asks the other endpoint.
    """

    __slots__ = ("endpoint", "flight", "task")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.flight: RivalFlight | None = None
        self.endpoint: AgentEndpoint | None = None


class RivalFlight:
    """A rival's attempt under way.

    Args:
        index: The endpoint.
        began: When it was sent.
        errand: Whose rival it is.
    """

    __slots__ = ("began", "errand", "index")

    def __init__(self, index: int, began: float, errand: Errand) -> None:
        self.index = index
        self.began = began
        self.errand = errand

    @property
    def patient(self) -> bool:
        """As its errand."""
        return self.errand.patient
