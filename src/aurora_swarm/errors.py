"""Every error that Aurora Swarm raises or hands over as data.

Each class says whose fault it is, because that decides what may be done next::

    AuroraSwarmError
    |- UsageError                  what we were given is wrong; nothing was started (exit code 2)
    |  |- InputError               a file, line, column or field, and what to do about it
    |  |  |- HostfileError
    |  |  |- TemplateError
    |  |  |- SpecError
    |  |  |- SchemaError
    |  |  `- SettingsError
    |  |- ToolDefinitionError      a function that cannot be offered as a tool
    |  |- NoEndpointsError         an empty fleet, or a selection that matches none of it
    |  |- NothingListensError      endpoints were given, none of them answers
    |  |- ModelUnavailableError    weights that cannot be found, read, fetched or verified
    |  |- JournalError             a journal that may not be used
    |  |  |- JournalHeldError      another run holds it
    |  |  `- JournalForeignError   not ours, or written by a newer version
    |  `- StoreError               a vector store that may not be used, or not in this way
    |     `- StoreHeldError        another process holds it
    |- CallError                   one call to a model failed
    |  |- EndpointError            the endpoint's fault: tried elsewhere, counted against its health
    |  |  |- ConnectError          nothing accepted the connection
    |  |  |- ConnectionLostError   the connection ended before the answer did
    |  |  |- ServerError           a 5xx
    |  |  |- BadResponseError      an answer that is not one: garbage, wrong types, a missing choice
    |  |  |- TruncatedError        a stream that ended without its end
    |  |  |- AbortedError          the engine gave up on the generation
    |  |  `- AttemptTimeoutError   this endpoint took longer than one attempt may
    |  |- OverloadedError          busy (429, 503): others are used, this one cools down
    |  |- WrongModelError          the endpoint serves something else: excluded, not unhealthy
    |  |- RequestRejectedError     the caller's fault (400, 413, 422 ...): final
    |  |  |- AuthenticationError   401 or 403
    |  |  `- BatchUnsupportedError the endpoint takes no batch of this kind; single calls work
    |  |- DeadlineError            the call's own time was used up
    |  |- QuorumError              too few of those who were asked answered
    |  `- CallCancelledError       ended by its owner
    |- AgentError                  an agent could not finish although calls succeeded
    |  |- InvalidOutputError       no valid answer within the allowed re-asks; the last text is kept
    |  |- TurnLimitError           no answer within the allowed turns
    |  |- AgentTimeoutError        the agent's own time was used up
    |  |- ContextError             the conversation does not fit the model's context
    |  |- BudgetError              what may be spent is spent; nothing beyond it was begun
    |  |- PlanError                an objective that no usable plan came for
    |  |- WorkerLostError          a worker that did not come back within its lease, each time a task was given out
    |  |- TaskCancelledError       a task that was ended on request, or whose predecessors failed
    |  |- MemberLostError          a swarm of a hivemind that could not be reached, or did not come back
    |  |- UnansweredError          a person gave no valid answer in time, and there was no default
    |  |- CallbackError            code of the user's (a callback, an input iterator) raised
    |  `- ToolFailedError          a tool failed where the run cannot go on without it
    |- EngineError                 workers cannot be begun at all, where they were to be placed
    |- FencedError                 a shard has another owner by now: whoever had it stops at once
    `- StorageError                a result or a journal record could not be written

Failures travel as data (``response.error``, ``result.error``): instances of these classes, never
strings. They survive pickling, print as one sentence, and turn into plain data with `as_dict`.
"""

from __future__ import annotations

import re
from typing import Any, Self


class AuroraSwarmError(Exception):
    """Base of everything raised here.

    Args:
        problem: What is wrong, as a sentence without a final full stop.
        remedy: What the reader can do about it; empty when there is nothing to say.
    """

    def __init__(self, problem: str, *, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    @property
    def kind(self) -> str:
        """The class as a stable snake-case word, for counting and for JSON (``server``, ``bad_response``)."""
        name = type(self).__name__.removesuffix("Error")
        return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: ``kind``, ``message``, and every further field that is set."""
        fields = {k: v for k, v in vars(self).items() if v not in ("", None, ()) and k != "problem"}
        return {"kind": self.kind, "message": str(self), **fields}

    def __str__(self) -> str:
        return self.problem

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.problem))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dict(vars(self)))

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        error = cls.__new__(cls)
        Exception.__init__(error, state["problem"])
        vars(error).update(state)
        return error


def _restore(cls: type[AuroraSwarmError], state: dict[str, Any]) -> AuroraSwarmError:
    return cls._from_state(state)


class UsageError(AuroraSwarmError):
    """What we were given is wrong; nothing was started. The command line exits with 2."""


class InputError(UsageError):
    """Something at a known place is wrong.

    Args:
        problem: What is wrong there.
        source: The file, variable or parameter.
        line: 1-based line, or None where the source has no lines.
        column: 1-based column, or None.
        field: Dotted name of the field (``inputs.path``), or empty.
        remedy: What to do.
        others: Further errors of the same source, so that all are reported at once.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: str = "",
        line: int | None = None,
        column: int | None = None,
        field: str = "",
        remedy: str = "",
        others: tuple[InputError, ...] = (),
    ) -> None:
        super().__init__(problem, remedy=remedy)
        self.source = source
        self.line = line
        self.column = column
        self.field = field
        self.others = others

    @property
    def place(self) -> str:
        """``source:line:column`` as editors know it, as far as it is known."""
        parts = [self.source, *(str(n) for n in (self.line, self.column) if n is not None)]
        return ":".join(p for p in parts if p)

    def as_dict(self) -> dict[str, Any]:
        """Like the base, with the further errors as plain data too."""
        data = super().as_dict()
        if self.others:
            data["others"] = [other.as_dict() for other in self.others]
        return data

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.place, self.field) if part)
        own = f"{where}: {self.problem}" if where else self.problem
        return "\n".join([own, *(str(other) for other in self.others)])

    @classmethod
    def all_of(cls, errors: list[Self]) -> Self:
        """One error that carries them all.

        Args:
            errors: At least one error, in the order of their places.

        Returns:
            The first, with the rest as its `others`.
        """
        first = errors[0]
        first.others = tuple(errors[1:])
        return first


class HostfileError(InputError):
    """A line of a hostfile is not an endpoint."""


class TemplateError(InputError):
    """A template is malformed, or names a field that an input lacks."""


class SpecError(InputError):
    """A run specification does not say what it must."""


class SchemaError(InputError):
    """A JSON schema cannot be used."""


class SettingsError(InputError):
    """An environment variable or settings file holds a value that cannot be used."""


class ToolDefinitionError(UsageError):
    """A function cannot be offered as a tool."""


class NoEndpointsError(UsageError):
    """A fleet, or a selection from one, is empty."""


class NothingListensError(UsageError):
    """Endpoints were given, and none of them answers."""


class ModelUnavailableError(UsageError):
    """Weights cannot be found, read, fetched or verified, or the embedded server did not start."""


class JournalError(UsageError):
    """A journal may not be used."""


class JournalHeldError(JournalError):
    """Another run holds the journal."""


class JournalForeignError(JournalError):
    """The file is not a journal of ours, or a newer version wrote it."""


class StoreError(UsageError):
    """A vector store may not be used, or not in this way."""


class StoreHeldError(StoreError):
    """Another process holds the vector store; the sentence says which."""


class CallError(AuroraSwarmError):
    """One call to a model failed.

    Args:
        problem: What happened.
        endpoint: URL of the endpoint, without credentials; empty when none was involved.
        status: HTTP status, or None when there was none.
        remedy: What to do.
    """

    def __init__(self, problem: str, *, endpoint: str = "", status: int | None = None, remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.endpoint = endpoint
        self.status = status

    def __str__(self) -> str:
        return f"{self.endpoint}: {self.problem}" if self.endpoint else self.problem


class EndpointError(CallError):
    """The endpoint's fault: the call is tried elsewhere and the endpoint's health suffers."""


class ConnectError(EndpointError):
    """Nothing accepted the connection (refused, unreachable, unknown host, TLS)."""


class ConnectionLostError(EndpointError):
    """The connection ended before the answer did."""


class ServerError(EndpointError):
    """The endpoint answered with a 5xx."""


class BadResponseError(EndpointError):
    """The endpoint answered with something that is no answer."""


class TruncatedError(EndpointError):
    """A stream ended without the event that ends it."""


class AbortedError(EndpointError):
    """The engine gave up on the generation (finish reason ``abort`` or ``error``)."""


class AttemptTimeoutError(EndpointError):
    """One attempt took longer than an attempt may; the call itself may still have time."""


class OverloadedError(CallError):
    """The endpoint is busy (429, 503).

    Args:
        problem: What the endpoint said.
        endpoint: Its URL.
        status: HTTP status.
        retry_after_s: Seconds that the endpoint asked for, already clamped; None when it did not.
        remedy: What to do.
    """

    def __init__(
        self,
        problem: str,
        *,
        endpoint: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(problem, endpoint=endpoint, status=status, remedy=remedy)
        self.retry_after_s = retry_after_s


class WrongModelError(CallError):
    """The endpoint is well and serves another model."""


class RequestRejectedError(CallError):
    """The endpoint refuses this request whatever its state (400, 404, 413, 422): final."""


class AuthenticationError(RequestRejectedError):
    """The endpoint refuses the credentials (401, 403)."""


class BatchUnsupportedError(RequestRejectedError):
    """The endpoint takes no batch request of this kind; the same calls one by one may well succeed."""


class DeadlineError(CallError):
    """The call's own time was used up, waiting included."""


class QuorumError(CallError):
    """Too few of those who were asked answered, so that there is nothing to make an answer of.

    Args:
        problem: How many answered, how many were wanted, and the first failure.
        n_ok: Answers.
        n_failed: Failures.
    """

    def __init__(self, problem: str, *, n_ok: int, n_failed: int, remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.n_ok = n_ok
        self.n_failed = n_failed


class CallCancelledError(CallError):
    """The call was ended by its owner before it finished."""


class AgentError(AuroraSwarmError):
    """An agent could not finish although its calls succeeded."""


class InvalidOutputError(AgentError):
    """No valid answer came within the allowed re-asks.

    Args:
        problem: The last validation error, as told to the model.
        text: The last text of the model, unchanged.
    """

    def __init__(self, problem: str, *, text: str = "", remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.text = text


class TurnLimitError(AgentError):
    """No answer came within the allowed turns."""


class AgentTimeoutError(AgentError):
    """The agent's own time was used up."""


class ContextError(AgentError):
    """The conversation does not fit the model's context, however it is shortened."""


class BudgetError(AgentError):
    """What may be spent is spent, or would be exceeded; nothing beyond it was begun.

    Args:
        problem: Which bound, how much was left, and what the next step would have taken.
        bound: The field of the `Budget` (``tokens``, ``usd``, ``wall_s``, ``tool_calls``, ``width``).
    """

    def __init__(self, problem: str, *, bound: str = "", remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.bound = bound


class PlanError(AgentError):
    """No usable plan came for an objective."""


class WorkerLostError(AgentError):
    """Whoever worked on a task did not come back within the lease, as often as the task may be given out."""


class TaskCancelledError(AgentError):
    """A task was ended on request, or something that it builds on failed."""


class MemberLostError(AgentError):
    """A swarm of a hivemind could not be reached, or did not come back."""


class UnansweredError(AgentError):
    """A person gave no valid answer in time, and there was no default."""


class CallbackError(AgentError):
    """Code of the user's raised: a callback or an input iterator."""


class ToolFailedError(AgentError):
    """A tool failed where the run cannot go on without it."""


class EngineError(AuroraSwarmError):
    """Workers cannot be begun at all where they were to be placed."""


class FencedError(AuroraSwarmError):
    """A shard has another owner by now; nothing of what was to be written is."""


class StorageError(AuroraSwarmError):
    """A result or a journal record could not be written: disk full, quota, I/O error.

    Args:
        problem: What the system said.
        path: The file.
        unsaved: Indices of the inputs whose results are not on disk.
    """

    def __init__(self, problem: str, *, path: str = "", unsaved: tuple[int, ...] = (), remedy: str = "") -> None:
        super().__init__(problem, remedy=remedy)
        self.path = path
        self.unsaved = unsaved

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem
