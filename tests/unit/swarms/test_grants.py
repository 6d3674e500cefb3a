"""What a swarm elsewhere may spend: taken out before, settled after, never more than there is."""

import random

import pytest

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.errors import BudgetError
from aurora_swarm.swarms.grants import Grant, Spent, free_in, share_of
from aurora_swarm.values.budget import Budget, Price
from aurora_swarm.values.reply import Usage


def test_all_that_is_free_is_reserved_and_what_was_not_spent_is_put_back():
    purse = Purse(Budget(tokens=1_000, tool_calls=10))
    grant = Grant(purse, 0.0)
    assert (grant.budget.tokens, grant.budget.tool_calls) == (1_000, 10)
    assert (purse.statistics().reserved_tokens, purse.statistics().reserved_tool_calls) == (1_000, 10)
    with pytest.raises(BudgetError):
        Grant(purse, 0.0)
    grant.settle(Spent(300, Usage(200, 80, 10), 4))
    has = purse.statistics()
    assert (has.tokens, has.tool_calls, has.reserved_tokens, has.reserved_tool_calls) == (300, 4, 0, 0)


def test_a_lost_swarm_has_spent_all_of_it():
    purse = Purse(Budget(tokens=1_000, tool_calls=10))
    Grant(purse, 0.0).lose()
    assert (purse.statistics().tokens, purse.statistics().tool_calls) == (1_000, 10)


def test_what_was_not_begun_costs_nothing():
    purse = Purse(Budget(tokens=1_000, usd=1.0, tool_calls=10), Price(1.0, 2.0))
    Grant(purse, 0.0).settle(None)
    has = purse.statistics()
    assert (has.tokens, has.usd, has.tool_calls, has.reserved_tokens) == (0, 0.0, 0, 0)


def test_without_a_bound_nothing_is_reserved():
    purse = Purse(Budget())
    grant = Grant(purse, 0.0)
    assert grant.budget == Budget()
    assert not grant.is_bounded
    grant.lose()
    assert purse.statistics().tokens == 0


def test_what_is_free_is_the_least_of_all_above():
    root = Purse(Budget(tokens=500, wall_s=60.0))
    child = Purse(Budget(tokens=800, tool_calls=3), None, root)
    root.enter(0.0)
    assert free_in(child, 10.0) == Budget(tokens=500, tool_calls=3, wall_s=50.0)
    assert share_of(free_in(child, 10.0), 0.5) == Budget(tokens=250, tool_calls=1, wall_s=50.0)


def test_too_little_is_refused():
    with pytest.raises(BudgetError, match="tokens"):
        Grant(Purse(Budget(tokens=10)), 0.0)


@pytest.mark.parametrize("seed", range(300))
def test_whatever_the_price_no_report_within_the_grant_overspends(seed):
    dice = random.Random(seed)
    price = Price(dice.random() * 9, dice.random() * 9, dice.choice([None, dice.random() * 20]))
    budget = Budget(usd=dice.choice([0.001, 0.05]), tokens=dice.choice([None, 5_000]))
    purse = Purse(budget, price)
    while True:
        try:
            grant = Grant(Purse(share_of(free_in(purse, 0.0), 0.5), None, purse), 0.0)
        except BudgetError:
            break
        spent = dice.randint(0, grant.budget.tokens)
        prompt = dice.randint(0, spent)
        grant.settle(Spent(spent, Usage(prompt, spent - prompt, dice.randint(0, prompt))))
        has = purse.statistics()
        assert has.usd <= budget.usd + 1e-12
        assert has.reserved_usd == has.reserved_tokens == 0
        if spent == 0 and dice.random() < 0.5:
            break


def test_tokens_that_nobody_counted_are_booked_as_the_dearest_that_they_can_be():
    assert Spent(100, Usage(30, 20, 10)).as_usage() == Usage(30, 70, 10)
    assert Spent(100, Usage(30, 20, 10)).as_usage(Price(2.0, 1.0)) == Usage(80, 20, 10)
    assert Spent(100, Usage(30, 20, 10)).as_usage(Price(2.0, 1.0, 3.0)) == Usage(80, 20, 60)
    assert Spent(100).as_usage() == Usage(1, 99)
    assert Spent().as_usage() == Usage()
