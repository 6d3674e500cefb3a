"""What a run came to, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from aurora_swarm.cli.voice import clock
from aurora_swarm.telemetry.tally import Tally


class Summary(msgspec.Struct, frozen=True):
    """The closing figures of a run, up to now while it runs.

    Args:
        total: Inputs; None while nobody knows.
        ok: Valid answers, resumed ones included.
        failed: Inputs without one.
        failures: The same by kind of error.
        resumed: Answers that came from the journal.
        cancelled: Agents that were stopped under way.
        prompt_tokens: Of this run, as all that follows.
        completion_tokens: Generated.
        cached_tokens: Prompt tokens that engines took from their prefix cache.
        tool_calls: What models asked for.
        tools_executed: What was really executed; the rest was shared or cached.
        wall_s: Seconds since the run began.
        interrupted: Whether it was stopped before its end.
    """

    total: int | None
    ok: int
    failed: int
    failures: Mapping[str, int]
    resumed: int
    cancelled: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    tool_calls: int
    tools_executed: int
    wall_s: float
    interrupted: bool = False

    @property
    def done(self) -> int:
        """Inputs that have their result."""
        return self.ok + self.failed

    @property
    def rate(self) -> float:
        """Inputs per second that were really worked on."""
        return (self.done - self.resumed) / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Tokens generated per second."""
        return self.completion_tokens / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take at this rate; None when nobody can say."""
        if self.total is None or self.rate <= 0:
            return None
        return (self.total - self.done) / self.rate


def as_json(summary: Summary) -> bytes:
    """One object, for programs."""
    figures = msgspec.structs.asdict(summary) | {
        "wall_s": round(summary.wall_s, 3),
        "tokens_per_s": round(summary.tokens_per_s, 3),
    }
    return msgspec.json.encode(figures)


def as_line(summary: Summary) -> str:
    """How far a run is, on one line."""
    of = f"/{summary.total}" if summary.total is not None else ""
    parts = [f"{summary.done}{of} done: {summary.ok} ok, {summary.failed} failed"]
    if summary.resumed:
        parts[0] += f", {summary.resumed} resumed"
    parts += [f"{summary.rate:.{1 if summary.rate >= 10 else 2}f}/s", f"{summary.tokens_per_s:.0f} tokens/s"]
    if summary.left_s is not None:
        parts.append(f"about {clock(summary.left_s)} left")
    return " | ".join(parts)


def as_text(summary: Summary) -> str:
    """The closing summary, a figure or two per line."""
    return "\n".join(_lines(summary))


def _lines(summary: Summary) -> Iterator[str]:
    of = f" of {summary.total}" if summary.total is not None and summary.total != summary.done else ""
    end = "interrupted" if summary.interrupted else "finished"
    yield f"{end}: {summary.done}{of} input{'s' * (summary.done != 1)} in {summary.wall_s:.1f} s"
    resumed = f", {summary.resumed} of them resumed from the journal" if summary.resumed else ""
    yield f"  ok      {summary.ok}{resumed}"
    by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.failures.items(), key=lambda i: -i[1]))
    yield f"  failed  {summary.failed}" + (f" ({by_kind})" if by_kind else "")
    yield (
        f"  tokens  {summary.prompt_tokens} prompt + {summary.completion_tokens} completion, "
        f"{summary.tokens_per_s:.0f} tokens/s, prefix cache {share(summary.cached_tokens, summary.prompt_tokens)}"
    )
    if summary.tool_calls:
        yield f"  tools   {summary.tool_calls} asked for, {summary.tools_executed} executed"


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def summarise(tally: Tally, total: int | None, *, interrupted: bool = False) -> Summary:
    """The figures of a tally.

    Args:
        tally: What was counted so far.
        total: Inputs, where the caller knows better than the tally.
        interrupted: Whether the run was stopped before its end.
    """
    counted = tally.snapshot()
    return Summary(
        total=counted.total if total is None else total,
        ok=counted.ok,
        failed=sum(counted.failed.values()),
        failures=counted.failed,
        resumed=counted.resumed,
        cancelled=counted.cancelled,
        prompt_tokens=counted.usage.prompt_tokens,
        completion_tokens=counted.usage.completion_tokens,
        cached_tokens=counted.usage.cached_tokens,
        tool_calls=counted.tools_asked,
        tools_executed=counted.tools_executed,
        wall_s=counted.elapsed_s,
        interrupted=interrupted,
    )
