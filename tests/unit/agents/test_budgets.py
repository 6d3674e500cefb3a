"""Purses: what is reserved, what is settled, and who is refused."""

import pytest

from aurora_swarm import errors
from aurora_swarm.agents.budgets import UNBOUNDED_TOKENS, Purse, most_prompt_tokens
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.call import Call, OfferedTool, Sampling
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.message import Message, ToolCall
from aurora_swarm.values.outcome import Attempt, Outcome
from aurora_swarm.values.reply import Reply, Usage

PLACE = AgentEndpoint("a", 8000)
PRICE = Price(prompt=1.0, completion=4.0, cached=0.5)


def call(prompt=100, max_tokens=50):
    """A call whose prompt is counted as so many tokens by `purse`."""
    return Call((Message("user", "x" * prompt),), sampling=Sampling(max_tokens=max_tokens))


def purse(parent=None, price=None, **budget):
    return Purse(Budget(**budget), price, parent, prompt_tokens=lambda call: len(call.messages[0].content))


def answered(prompt, completion, cached=0, failures=()):
    reply = Reply("x", usage=Usage(prompt, completion, cached))
    return Outcome(reply, None, PLACE, tuple(Attempt(PLACE, error, 0.1) for error in failures))


def failed(*failures):
    return Outcome(None, failures[-1], PLACE, tuple(Attempt(PLACE, error, 0.1) for error in failures))


def test_the_worst_is_reserved_and_what_was_not_needed_put_back():
    held = purse(tokens=1000)
    _, hold = held.reserve(call(100, 50), 0.0)
    assert (held.statistics().reserved_tokens, held.statistics().tokens) == (150, 0)
    held.settle(hold, answered(90, 10))
    assert (held.statistics().reserved_tokens, held.statistics().tokens) == (0, 100)


def test_what_is_reserved_or_spent_counts_in_all_purses_above():
    run = purse(tokens=1000)
    swarm = purse(run, tokens=500)
    agents = [purse(swarm), purse(swarm)]
    _, first = agents[0].reserve(call(100, 100), 0.0)
    agents[1].reserve(call(100, 100), 0.0)
    agents[0].settle(first, answered(50, 50))
    for above in (swarm, run):
        assert (above.statistics().tokens, above.statistics().reserved_tokens) == (100, 200)
    with pytest.raises(errors.BudgetError) as caught:
        agents[0].reserve(call(201, 100), 0.0)
    assert caught.value.bound == "tokens"
    assert (swarm.statistics().refused, run.statistics().refused) == (1, 0)
    assert run.statistics().reserved_tokens == 200


def test_a_refusal_names_bound_rest_and_need():
    held = purse(tokens=1000)
    held.reserve(call(500, 100), 0.0)
    with pytest.raises(errors.BudgetError) as caught:
        held.reserve(call(380, 100), 0.0)
    assert str(caught.value) == (
        "400 tokens of 1,000 tokens are left (600 tokens are reserved for steps under way), "
        "and the next step could take 480 tokens"
    )


@pytest.mark.parametrize(
    ("asked", "left", "granted"),
    [(100, 1000, 100), (100, 80, 80), (100, 64, 64), (100, 63, None), (1000, 250, 250), (1000, 249, None),
     (16, 16, 16), (16, 15, None), (None, 9000, UNBOUNDED_TOKENS), (None, 300, 300), (None, 63, None)],
)  # fmt: skip
def test_max_tokens_is_lowered_to_what_is_left_where_that_is_useful(asked, left, granted):
    held = purse(tokens=100 + left)
    if granted is None:
        with pytest.raises(errors.BudgetError):
            held.reserve(call(100, asked), 0.0)
        return
    lowered, hold = held.reserve(call(100, asked), 0.0)
    assert lowered.sampling.max_tokens == granted
    assert hold.amount.tokens == 100 + granted


def test_without_bounds_on_tokens_and_money_a_call_stays_as_it_is_and_is_counted():
    held = purse(tool_calls=3)
    asked = call(100, None)
    same, hold = held.reserve(asked, 0.0)
    assert same is asked
    held.settle(hold, answered(80, 20))
    assert held.statistics().tokens == 100


def test_money_is_reserved_at_the_dearest_price_and_settled_at_the_real_one():
    held = purse(price=PRICE, usd=1.0)
    _, hold = held.reserve(call(1000, 500), 0.0)
    assert held.statistics().reserved_usd == pytest.approx(1000e-6 + 500 * 4e-6)
    usage = Usage(900, 100, 400)
    held.settle(hold, answered(900, 100, 400))
    assert held.statistics().usd == pytest.approx(PRICE.of(usage))


def test_money_bounds_what_may_be_generated():
    held = purse(price=PRICE, usd=0.001)
    lowered, _ = held.reserve(call(200, 800), 0.0)
    assert lowered.sampling.max_tokens == 200
    with pytest.raises(errors.BudgetError) as caught:
        held.reserve(call(200, 800), 0.0)
    assert caught.value.bound == "usd"


def test_a_child_with_a_price_of_its_own_spends_its_parents_money_at_that_price():
    run = purse(price=PRICE, usd=1.0)
    dear = Purse(Budget(), Price(prompt=10.0, completion=10.0), run)
    _, hold = dear.reserve(call(100, 100), 0.0)
    dear.settle(hold, answered(100, 100))
    assert run.statistics().usd == pytest.approx(200 * 10e-6)


def test_cached_tokens_that_are_dearer_are_reserved_as_such():
    held = purse(price=Price(prompt=1.0, completion=1.0, cached=2.0), usd=1.0)
    _, hold = held.reserve(call(100, 100), 0.0)
    held.settle(hold, answered(100, 100, 100))
    assert held.statistics().usd == pytest.approx(300e-6)


REFUSED = errors.RequestRejectedError("too long", status=413)
BUSY = errors.OverloadedError("busy", status=429)
GONE = errors.ConnectError("refused")
CUT = errors.ConnectionLostError("cut")


@pytest.mark.parametrize(
    ("outcome", "cost"),
    [
        (None, 150),
        (failed(REFUSED), 0),
        (failed(BUSY, GONE), 0),
        (failed(GONE, CUT), 150),
        (failed(errors.AttemptTimeoutError("slow")), 150),
        (Outcome(None, errors.DeadlineError("never sent"), None), 0),
        (answered(90, 10), 100),
        (answered(90, 10, failures=[GONE, BUSY]), 100),
        (answered(90, 10, failures=[CUT]), 150),
        (answered(0, 0), 150),
    ],
)
def test_what_nobody_counted_costs_what_was_reserved_and_what_nobody_began_nothing(outcome, cost):
    held = purse(tokens=1000)
    _, hold = held.reserve(call(100, 50), 0.0)
    held.settle(hold, outcome)
    assert (held.statistics().tokens, held.statistics().reserved_tokens) == (cost, 0)


def test_a_server_that_counts_strangely_earns_nobody_anything():
    held = purse(price=PRICE, usd=1.0, tokens=1000)
    for usage in ((90, -10, 0), (90, 0, 500), (90, 0, -500), (-5, 10, 0)):
        _, hold = held.reserve(call(100, 50), 0.0)
        before = held.statistics()
        held.settle(hold, answered(*usage))
        assert held.statistics().tokens - before.tokens >= 90
        assert held.statistics().usd - before.usd >= 45e-6 - 1e-12


def test_tools_are_reserved_and_only_executions_are_booked():
    held = purse(tool_calls=3)
    hold = held.reserve_tools(2, 0.0)
    with pytest.raises(errors.BudgetError) as caught:
        held.reserve_tools(2, 0.0)
    assert caught.value.bound == "tool_calls"
    held.settle_tools(hold, 1)
    held.reserve_tools(2, 0.0)


def test_no_more_agents_are_under_way_than_the_width():
    run = purse(width=2)
    child = purse(run)
    child.enter(0.0)
    run.enter(0.0)
    with pytest.raises(errors.BudgetError) as caught:
        child.enter(0.0)
    assert caught.value.bound == "width"
    assert (run.statistics().agents, child.statistics().agents) == (2, 1)
    child.leave()
    child.enter(0.0)


def test_the_time_runs_from_the_first_agent_on():
    run = purse(wall_s=10.0)
    child = purse(run, wall_s=100.0)
    assert child.left_s(1000.0) == 10.0
    child.enter(1000.0)
    assert child.left_s(1004.0) == 6.0
    child.reserve(call(), 1009.0)
    with pytest.raises(errors.BudgetError) as caught:
        child.reserve(call(), 1010.0)
    assert caught.value.bound == "wall_s"
    with pytest.raises(errors.BudgetError):
        run.enter(1010.0)
    assert purse().left_s(0.0) is None


def test_money_without_a_price_and_bounds_below_zero_are_refused():
    with pytest.raises(errors.UsageError, match="price"):
        Purse(Budget(usd=1.0))
    Purse(Budget(usd=1.0), None, Purse(Budget(), PRICE))
    for budget in (Budget(tokens=-1), Budget(wall_s=float("nan")), Budget(tool_calls=-2)):
        with pytest.raises(errors.UsageError):
            Purse(budget)
    with pytest.raises(errors.UsageError):
        Purse(Budget(), Price(prompt=-1.0, completion=0.0))


def test_no_prompt_has_more_tokens_than_bytes_and_a_template():
    told = (Message("user", "né" * 100), Message("assistant", "", tool_calls=(ToolCall("c", "look", {"place": "é"}),)))
    tool = OfferedTool("look", "looks", b'{"type":"object"}')
    plain, offering = most_prompt_tokens(Call(told)), most_prompt_tokens(Call(told, tools=(tool,)))
    assert plain > 300 + len('{"place":"é"}')
    assert offering > plain + len(tool.parameters)
