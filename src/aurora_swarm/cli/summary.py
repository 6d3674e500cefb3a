"""What a run came to, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.cli.voice import clock, counted, money
from aurora_swarm.inputs.prices import PriceTable
from aurora_swarm.telemetry.quantiles import Spread
from aurora_swarm.telemetry.tally import Tally, TallySnapshot
from aurora_swarm.values.budget import Budget


class Account(msgspec.Struct, frozen=True):
    """What a run costs and what it may spend.

    Args:
        prices: What models cost; None where nobody says.
        budget: Its bounds; None for none.
        purse: Out of which it is paid; it knows of more than results do, such as calls that were cut off. None where
            only results tell.
    """

    prices: PriceTable | None = None
    budget: Budget | None = None
    purse: Purse | None = None


class Spending(msgspec.Struct, frozen=True):
    """One bound of a budget.

    Args:
        limit: What may be spent.
        spent: What is.
    """

    limit: float
    spent: float

    @property
    def left(self) -> float:
        """What may still be."""
        return max(0.0, self.limit - self.spent)


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
        requests: Requests that were sent.
        turns: Model turns that they were sent for; the others were retries and re-asks.
        in_doubt: Calls of tools with effects of which nobody knows whether they happened.
        ttft: Seconds to the first token; None where answers were not streamed.
        latency: Seconds per input; None before the first.
        model: The model asked for.
        cost_usd: What the tokens cost; None where no price is known.
        priced_by: The file with the prices; empty where there is none.
        budget: What is spent of each bound.
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
    requests: int = 0
    turns: int = 0
    in_doubt: int = 0
    ttft: Spread | None = None
    latency: Spread | None = None
    model: str = ""
    cost_usd: float | None = None
    priced_by: str = ""
    budget: Mapping[str, Spending] = {}

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

    @property
    def cost_per_task_usd(self) -> float | None:
        """What an input cost that was really worked on; None where no price is known, or there is none."""
        worked_on = self.done - self.resumed
        return self.cost_usd / worked_on if self.cost_usd is not None and worked_on else None

    @property
    def dedup_ratio(self) -> float | None:
        """Tool calls asked for per execution: 1 where nothing was shared; None without executions."""
        return self.tool_calls / self.tools_executed if self.tools_executed else None

    @property
    def asked_again(self) -> int:
        """Requests beyond one per turn: retries after failures, and re-asks after invalid answers."""
        return max(0, self.requests - self.turns)


def summarise(tally: Tally, total: int | None, account: Account = Account(), *, interrupted: bool = False) -> Summary:  # noqa: B008 - frozen
    """The figures of a tally.

    Args:
        tally: What was counted so far.
        total: Inputs, where the caller knows better than the tally.
        account: What it costs and may cost.
        interrupted: Whether the run was stopped before its end.
    """
    counted = tally.snapshot()
    price = account.prices.price_for(counted.model) if account.prices else None
    cost_usd = price.of(counted.usage) if price else None
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
        requests=counted.attempts,
        turns=counted.turns,
        in_doubt=counted.in_doubt,
        ttft=counted.ttft,
        latency=counted.latency,
        model=counted.model,
        cost_usd=cost_usd,
        priced_by=account.prices.source if account.prices else "",
        budget=_spent(account, counted, cost_usd),
    )


def _spent(account: Account, counted: TallySnapshot, cost_usd: float | None) -> dict[str, Spending]:
    """What is spent of each bound that is set; the width is a bound of a moment, and nothing of it is ever spent."""
    budget, purse = account.budget, account.purse.statistics() if account.purse else None
    if budget is None:
        return {}
    pairs = {
        "tokens": (budget.tokens, purse.tokens if purse else counted.usage.total_tokens),
        "usd": (budget.usd, purse.usd if purse else cost_usd or 0.0),
        "wall_s": (budget.wall_s, counted.elapsed_s),
        "tool_calls": (budget.tool_calls, purse.tool_calls if purse else counted.tools_executed),
    }
    return {name: Spending(limit, spent) for name, (limit, spent) in pairs.items() if limit is not None}


def as_json(summary: Summary, **more: object) -> bytes:
    """One object, for programs.

    Args:
        summary: The figures.
        **more: What the object says beside them.
    """
    figures = msgspec.to_builtins(summary) | {
        "wall_s": round(summary.wall_s, 3),
        "tokens_per_s": round(summary.tokens_per_s, 3),
        "cache_hit_ratio": _ratio(summary.cached_tokens, summary.prompt_tokens),
        "tool_dedup_ratio": None if summary.dedup_ratio is None else round(summary.dedup_ratio, 4),
        "asked_again": summary.asked_again,
        "cost_per_task_usd": summary.cost_per_task_usd,
        "budget": {name: {"limit": b.limit, "spent": b.spent, "left": b.left} for name, b in summary.budget.items()},
    }
    return msgspec.json.encode(figures | more)


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def as_line(summary: Summary) -> str:
    """How far a run is, on one line."""
    of = f"/{summary.total}" if summary.total is not None else ""
    parts = [f"{summary.done}{of} done: {summary.ok} ok, {summary.failed} failed"]
    if summary.resumed:
        parts[0] += f", {summary.resumed} resumed"
    parts += [f"{summary.rate:.{1 if summary.rate >= 10 else 2}f}/s", f"{summary.tokens_per_s:.0f} tokens/s"]
    if summary.cost_usd is not None:
        parts.append(money(summary.cost_usd))
    if summary.left_s is not None:
        parts.append(f"about {clock(summary.left_s)} left")
    return " | ".join(parts)


def as_text(summary: Summary) -> str:
    """The closing summary, a figure or two per line."""
    return "\n".join(_lines(summary))


def _lines(summary: Summary) -> Iterator[str]:
    of = f" of {summary.total}" if summary.total is not None and summary.total != summary.done else ""
    end = "interrupted" if summary.interrupted else "finished"
    inputs = f"{summary.done}{of} inputs" if of else counted(summary.done, "input")
    yield f"{end}: {inputs} in {summary.wall_s:.1f} s"
    resumed = f", {summary.resumed} of them resumed from the journal" if summary.resumed else ""
    yield f"  ok      {summary.ok}{resumed}"
    by_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.failures.items(), key=lambda i: -i[1]))
    yield f"  failed  {summary.failed}" + (f" ({by_kind})" if by_kind else "")
    yield (
        f"  tokens  {summary.prompt_tokens} prompt + {summary.completion_tokens} completion, "
        f"{summary.tokens_per_s:.0f} tokens/s, prefix cache {share(summary.cached_tokens, summary.prompt_tokens)}"
    )
    if summary.requests:
        again = f", {summary.asked_again} of them again" if summary.asked_again else ""
        yield f"  asked   {counted(summary.requests, 'request')} for {counted(summary.turns, 'turn')}{again}"
    yield from _tool_lines(summary)
    if summary.latency is not None:
        first = f"; to the first token {_spread(summary.ttft)}" if summary.ttft is not None else ""
        yield f"  times   per input {_spread(summary.latency)}{first}"
    yield from _cost_lines(summary)


def _tool_lines(summary: Summary) -> Iterator[str]:
    if summary.tool_calls:
        ratio = f" ({summary.dedup_ratio:.1f} asked per execution)" if summary.dedup_ratio is not None else ""
        yield f"  tools   {summary.tool_calls} asked for, {summary.tools_executed} executed{ratio}"
    if summary.in_doubt:
        calls = counted(summary.in_doubt, "tool call")
        yield f"  doubt   {calls} with effects, interrupted and not repeated: see in_doubt"


def _cost_lines(summary: Summary) -> Iterator[str]:
    if summary.cost_usd is not None:
        each = f", {money(summary.cost_per_task_usd)} per input" if summary.cost_per_task_usd is not None else ""
        yield f"  cost    {money(summary.cost_usd)}{each}, by {summary.priced_by}"
    elif summary.priced_by and summary.requests:
        lacks = f"has no price for {summary.model}" if summary.model else "cannot tell without --model"
        yield f"  cost    unknown: {summary.priced_by} {lacks}"
    for name, bound in summary.budget.items():
        yield f"  budget  {_bound(name, bound)}"


def _spread(spread: Spread) -> str:
    return f"{_seconds(spread.median_s)} median, {_seconds(spread.p95_s)} p95"


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"


def _bound(name: str, bound: Spending) -> str:
    show = money if name == "usd" else "{:,.0f}".format
    return f"{_BOUNDS[name]} {show(bound.limit)}: {show(bound.spent)} spent, {show(bound.left)} left"


_BOUNDS = {"tokens": "tokens", "usd": "money", "wall_s": "seconds", "tool_calls": "tool calls"}


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
