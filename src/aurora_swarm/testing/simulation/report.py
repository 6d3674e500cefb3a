"""What a simulation found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

from aurora_swarm.testing.simulation.faults import Kind
from aurora_swarm.testing.simulation.scenario import CallPlan
from aurora_swarm.values.outcome import Outcome
from aurora_swarm.values.statistics import PoolStatistics


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened.

    Args:
        at_s: When.
        what: ``asked``, ``sent``, ``answered``, ``probed``, ``ended`` ...
        where: Index of the endpoint; -1 for none.
        who: The prompts that it is about.
    """

    at_s: float
    what: str
    where: int
    who: str

    def __str__(self) -> str:
        place = f"endpoint {self.where}" if self.where >= 0 else ""
        return f"{self.at_s:12.6f}  {place:<12} {self.what:<16} {self.who}"


class Ended(msgspec.Struct, frozen=True):
    """How one thing that was asked ended.

    Args:
        plan: What was asked.
        outcomes: One per prompt; empty where the caller gave up, or nothing came back.
        began_s: When it was asked.
        ended_s: When it ended.
        cancelled: Whether it ended as cancelled.
        was_cancelled: Whether its caller gave up before the end.
        budget_spent: Whether no retry was left at the end.
        closed: Whether the dispatcher was closed by then.
        crash: What was raised though nothing may be.
    """

    plan: CallPlan
    outcomes: tuple[Outcome, ...]
    began_s: float
    ended_s: float
    cancelled: bool
    was_cancelled: bool
    budget_spent: bool
    closed: bool
    crash: str = ""


class SimulationReport(msgspec.Struct, frozen=True):
    """What happened in a simulation, and what should not have.

    Args:
        seed: Of the scenario.
        ended: Everything that was asked, in the order of the scenario.
        events: Everything that happened, in order.
        statistics: The dispatcher's, after the last call.
        injected: Faults that requests met, by kind.
        virtual_s: How long it took on the loop's clock.
        violations: What should not have happened, as sentences; empty when all is well.
    """

    seed: int
    ended: tuple[Ended, ...]
    events: tuple[Event, ...]
    statistics: PoolStatistics
    injected: Counter[Kind]
    virtual_s: float
    violations: tuple[str, ...]

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, in the order of the scenario."""
        return [outcome for ended in self.ended for outcome in ended.outcomes]

    @property
    def answered(self) -> int:
        """Calls that were answered."""
        return sum(outcome.reply is not None for outcome in self.outcomes)

    @property
    def digest(self) -> str:
        """A hash of all events: equal for equal runs."""
        return blake2b(msgspec.json.encode(self.events), digest_size=16).hexdigest()

    def story(self, events: int = 200) -> str:
        """The report for a reader.

        Args:
            events: The last so many events are told.
        """
        lines = [_head(self), *map(str, self.events[-events:]), *(f"VIOLATED: {v}" for v in self.violations)]
        return "\n".join([*lines, f"replay: {replay_command(self.seed)}"])


def replay_command(seed: int) -> str:
    """How to see a seed's scenario again."""
    return f"python -m aurora_swarm.testing.simulation --seed {seed}"


def _head(report: SimulationReport) -> str:
    outcomes: Sequence[Outcome] = report.outcomes
    errors = Counter(outcome.error.kind for outcome in outcomes if outcome.error is not None)
    return (
        f"seed {report.seed}: {len(report.ended)} asked, {report.answered} answered, "
        f"{sum(e.cancelled for e in report.ended)} cancelled, failed: {dict(errors)}, "
        f"injected: {dict(report.injected)}, {report.virtual_s:.3f} s of virtual time, events {report.digest}"
    )
