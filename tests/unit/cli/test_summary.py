"""What a run came to, and what is told on the way."""

from __future__ import annotations

import io
import json
import time

import pytest
from rich.console import Console

from aurora_swarm.cli.exits import Exit, exit_of
from aurora_swarm.cli.heartbeat import PlainProgress
from aurora_swarm.cli.live import LiveProgress
from aurora_swarm.cli.progress import Latest, condensed, describer
from aurora_swarm.cli.summary import Account, as_json, as_line, as_text, summarise
from aurora_swarm.cli.voice import clock, money
from aurora_swarm.errors import ConnectError, TurnLimitError
from aurora_swarm.inputs.prices import PriceTable
from aurora_swarm.telemetry.tally import Tally
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.event import AgentEnded, AgentStarted, Event, RunEnded, RunStarted, ToolEnded
from aurora_swarm.values.outcome import AgentResult
from aurora_swarm.values.reply import Usage


def ok(index: int, *, resumed: bool = False, output: object = "fine") -> AgentEnded:
    usage = Usage(prompt_tokens=100, completion_tokens=10, cached_tokens=25)
    result = AgentResult(
        index=index, key="k", ok=True, output=output, error=None, usage=usage, resumed=resumed, attempts=1
    )
    return AgentEnded(result)


def failed(index: int) -> AgentEnded:
    error = ConnectError("refused", endpoint="http://node1:8000") if index % 2 else TurnLimitError("no answer")
    return AgentEnded(AgentResult(index=index, key="k", ok=False, output=None, error=error))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tallied(*events: Event, total: int | None = 10, seconds: float = 5.0) -> Tally:
    clock_ = Clock()
    tally = Tally(now=clock_)
    tally.emit(RunStarted(total, ("http://node1:8000",), "m"))
    clock_.now = seconds
    for event in events:
        tally.emit(event)
    return tally


EVENTS = (
    *(AgentStarted(index) for index in range(6)),
    ToolEnded(0, "read_file", executed=True, ok=True, latency_s=0.1),
    ToolEnded(1, "read_file", executed=False, ok=True, latency_s=0.0),
    ok(0),
    ok(1),
    ok(2, resumed=True),
    failed(3),
    failed(4),
    failed(5),
)


def test_the_figures_are_those_of_the_run() -> None:
    summary = summarise(tallied(*EVENTS, RunEnded()), None)
    assert (summary.total, summary.ok, summary.failed, summary.resumed) == (10, 3, 3, 1)
    assert summary.failures == {"connect": 2, "turn_limit": 1}
    assert (summary.prompt_tokens, summary.completion_tokens, summary.cached_tokens) == (200, 20, 50)
    assert (summary.tool_calls, summary.tools_executed) == (2, 1)
    assert summary.wall_s == 5.0
    assert summary.tokens_per_s == 4.0


def test_what_is_left_is_judged_by_what_was_worked_on() -> None:
    summary = summarise(tallied(*EVENTS), None)
    assert summary.rate == 1.0  # five in five seconds; the resumed one took nothing
    assert summary.left_s == 4.0


def test_nobody_guesses_what_is_left_of_an_unknown_number() -> None:
    summary = summarise(tallied(*EVENTS, total=None), None)
    assert summary.left_s is None
    assert as_line(summary).startswith("6 done: 3 ok, 3 failed, 1 resumed")


def test_the_closing_words_name_every_kind_of_figure() -> None:
    words = as_text(summarise(tallied(*EVENTS, RunEnded()), None))
    for part in (
        "finished: 6 of 10 inputs in 5.0 s",
        "ok      3, 1 of them resumed",
        "failed  3 (2 connect, 1 turn_limit)",
        "200 prompt + 20 completion, 4 tokens/s, prefix cache 25 %",
        "2 asked for, 1 executed",
    ):
        assert part in words


PRICES = PriceTable({"m": Price(prompt=10.0, completion=100.0, cached=2.0)}, "prices.yaml")
COST = (150 * 10 + 50 * 2 + 20 * 100) / 1e6
"""Of the two agents in `EVENTS` that were worked on and well."""


def streamed(index: int, ttft_s: float, latency_s: float, *, attempts: int = 1) -> AgentEnded:
    result = AgentResult(index, "k", True, "fine", None, attempts=attempts, turns=1, ttft_s=ttft_s, latency_s=latency_s)
    return AgentEnded(result)


def test_money_is_that_of_the_table_by_the_model_of_the_run() -> None:
    summary = summarise(tallied(*EVENTS, RunEnded()), None, Account(PRICES))
    assert summary.cost_usd == pytest.approx(COST)
    assert summary.cost_per_task_usd == pytest.approx(COST / 5)  # the resumed one cost nothing
    assert "cost    $0.0036, $0.00072 per input, by prices.yaml" in as_text(summary)
    assert "| $0.0036 |" in as_line(summary)


def test_without_a_table_there_is_no_word_of_money() -> None:
    summary = summarise(tallied(*EVENTS, RunEnded()), None)
    assert (summary.cost_usd, summary.cost_per_task_usd) == (None, None)
    assert "$" not in as_text(summary) + as_line(summary)
    assert "cost" not in as_text(summary)


def test_a_model_that_the_table_lacks_has_no_price_and_this_is_said() -> None:
    table = PriceTable({"other": Price(1, 1)}, "prices.yaml")
    summary = summarise(tallied(*EVENTS, RunEnded()), None, Account(table))
    assert summary.cost_usd is None
    assert summary.priced_by == "prices.yaml"
    spent = summarise(tallied(streamed(0, 0.1, 1.0), RunEnded()), None, Account(table))
    assert "cost    unknown: prices.yaml has no price for m" in as_text(spent)


def test_one_is_not_many() -> None:
    words = as_text(summarise(tallied(streamed(0, 0.1, 1.0), RunEnded(), total=1), None))
    assert "finished: 1 input in" in words
    assert "asked   1 request for 1 turn" in words


def test_what_is_left_of_a_budget_is_said_bound_by_bound() -> None:
    budget = Budget(tokens=1_000, usd=1.0, wall_s=4.0, tool_calls=2, width=8)
    summary = summarise(tallied(*EVENTS, RunEnded()), None, Account(PRICES, budget))
    assert {name: (bound.spent, bound.left) for name, bound in summary.budget.items()} == {
        "tokens": (220, 780),
        "usd": (pytest.approx(COST), pytest.approx(1 - COST)),
        "wall_s": (5.0, 0.0),
        "tool_calls": (1, 1),
    }
    words = as_text(summary)
    assert "budget  tokens 1,000: 220 spent, 780 left" in words
    assert "budget  tool calls 2: 1 spent, 1 left" in words


def test_times_are_told_where_they_were_measured() -> None:
    summary = summarise(tallied(*(streamed(n, 0.1, 2.0) for n in range(4)), RunEnded()), None)
    assert "times   per input 2.0 s median, 2.0 s p95; to the first token 0.100 s median, 0.100 s p95" in as_text(
        summary
    )
    assert "first token" not in as_text(summarise(tallied(*EVENTS, RunEnded()), None))


def test_requests_beyond_one_per_turn_were_sent_again() -> None:
    summary = summarise(tallied(streamed(0, 0.1, 1.0, attempts=3), streamed(1, 0.1, 1.0), RunEnded()), None)
    assert summary.asked_again == 2
    assert "asked   4 requests for 2 turns, 2 of them again" in as_text(summary)


def test_effects_in_doubt_are_not_kept_quiet() -> None:
    doubtful = AgentEnded(AgentResult(0, "k", True, "fine", None, in_doubt=1))
    assert "doubt   1 tool call" in as_text(summarise(tallied(doubtful, RunEnded()), None))
    assert "doubt" not in as_text(summarise(tallied(*EVENTS, RunEnded()), None))


def test_a_program_is_told_all_of_it() -> None:
    budget = Budget(tokens=1_000)
    data = json.loads(as_json(summarise(tallied(*EVENTS, RunEnded()), None, Account(PRICES, budget)), extra=1))
    assert data["cost_usd"] == pytest.approx(COST)
    assert data["cost_per_task_usd"] == pytest.approx(COST / 5)
    assert data["budget"] == {"tokens": {"limit": 1_000, "spent": 220, "left": 780}}
    assert (data["tool_dedup_ratio"], data["cache_hit_ratio"], data["in_doubt"]) == (2.0, 0.25, 0)
    assert data["latency"].keys() == {"count", "median_s", "p95_s", "most_s"}
    assert (data["ttft"], data["extra"]) == (None, 1)


@pytest.mark.parametrize(
    ("usd", "words"),
    [(0, "$0.00"), (0.00072, "$0.00072"), (0.0361, "$0.036"), (0.5, "$0.50"), (1, "$1.00"), (12345.678, "$12,345.68")],
)
def test_money_in_words(usd: float, words: str) -> None:
    assert money(usd) == words


def test_an_interrupted_run_is_called_so() -> None:
    assert as_text(summarise(tallied(*EVENTS), None, interrupted=True)).startswith("interrupted: 6 of 10")


def test_the_same_figures_for_programs() -> None:
    data = json.loads(as_json(summarise(tallied(*EVENTS, RunEnded()), None)))
    assert data["failures"] == {"connect": 2, "turn_limit": 1}
    assert data["interrupted"] is False


def test_a_run_of_nothing_divides_by_nothing() -> None:
    tally = tallied(RunEnded(), total=0, seconds=0.0)
    assert "0 inputs" in as_text(summarise(tally, 0))
    assert "0 %" in as_text(summarise(Tally(), None))


def test_exit_codes() -> None:
    assert [exit_of(2, 0), exit_of(2, 1), exit_of(0, 2), exit_of(0, 0)] == [
        Exit.OK,
        Exit.SOME_FAILED,
        Exit.ALL_FAILED,
        Exit.OK,
    ]


def test_a_failure_is_named_once() -> None:
    tally, latest = tallied(*EVENTS), Latest()
    describe = describer(lambda: summarise(tally, None), latest)
    latest.emit(failed(3))
    assert "last failure: input 3: connect: http://node1:8000: refused" in describe()
    assert "last failure" not in describe()


def test_before_the_run_begins_the_last_sentence_is_repeated(capfd) -> None:
    with PlainProgress(describer(lambda: summarise(Tally(), None), Latest()), interval_s=0.05) as progress:
        progress.say("starting the model")
        time.sleep(0.3)
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "starting the model"
    assert said[1] == "[00:00] still at it: starting the model"


def test_the_end_of_progress_is_quiet(capfd) -> None:
    with PlainProgress(interval_s=0.02):
        time.sleep(0.1)
    capfd.readouterr()
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


def test_the_live_view_shows_counts_answers_and_failures() -> None:
    latest = Latest()
    for event in (ok(0, output={"module": "csv", "purpose": "tables"}), failed(3)):
        latest.emit(event)
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    view = LiveProgress(lambda: summarise(tallied(*EVENTS), None), latest, console)
    with console.capture() as captured:
        console.print(view.render())
    drawn = captured.get()
    for part in ("6/10 done: 3 ok, 3 failed, 1 resumed", "60 %", "0: module: csv, purpose: tables", "3: connect"):
        assert part in drawn


def test_an_answer_is_one_line_that_cannot_steer_the_terminal() -> None:
    line = condensed(ok(0, output="\x1b[2Jgone\nnext").result)
    assert "\x1b" not in line
    assert "\n" not in line


def test_clock() -> None:
    assert [clock(0), clock(61.9), clock(3723)] == ["00:00", "01:01", "1:02:03"]
