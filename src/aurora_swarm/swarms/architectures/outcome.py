"""What an architecture gives back: one answer, who said what on the way, and what it took. Pure values."""

from __future__ import annotations

from typing import Any

import msgspec

from aurora_swarm.errors import AuroraSwarmError
from aurora_swarm.values.reply import Usage


class Contribution(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent said at one stage, or why it said nothing.

    Args:
        agent: Its name.
        stage: What it was asked for: ``propose``, ``vote``, ``judge`` ...
        text: Its answer as others read it, JSON where there is a schema; empty when `error` is set.
        output: The validated answer, an instance of the schema; the text where there is none.
        error: Why there is no answer.
        usage: Tokens spent on it, re-asks and turns with tools included.
        attempts: Requests that were sent for it.
        latency_s: Seconds that it took.
    """

    agent: str
    stage: str
    text: str = ""
    output: Any = None
    error: AuroraSwarmError | None = None
    usage: Usage = Usage()
    attempts: int = 0
    latency_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None


class ArchitectureOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended. Failures of agents are in `parts`; below the quorum there is no answer but an error.

    Args:
        answer: The answer; empty when `error` is set.
        output: The same, validated: an instance of the schema where there is one.
        confidence: Share of the answers that agree with it, where it was voted or agreed on; None where a model or a
            function made or chose it, which says nothing of how sure it is.
        parts: Everything that was said, in order of time.
        n_ok: Members whose work is in the answer, or was weighed for it.
        n_failed: Members whose work is not.
        error: Why there is no answer.
    """

    answer: str
    output: Any = None
    confidence: float | None = None
    parts: tuple[Contribution, ...] = ()
    n_ok: int = 0
    n_failed: int = 0
    error: AuroraSwarmError | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.error is None

    @property
    def usage(self) -> Usage:
        """Tokens of all that was heard. A purse counts more: calls that were cancelled or failed, by their worst."""
        return sum((part.usage for part in self.parts), Usage())
