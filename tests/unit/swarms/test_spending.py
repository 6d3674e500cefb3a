"""Workers never spend what is kept for the one answer."""

import pytest

from aurora_swarm.agents.budgets import Purse
from aurora_swarm.swarms.spending import share_for_work
from aurora_swarm.values.budget import Budget, Price


def test_it_is_a_share_of_what_the_tightest_purse_has_left():
    above = Purse(Budget(tokens=1_000, usd=2.0), Price(1.0, 1.0))
    own = Purse(Budget(tokens=5_000), None, above)
    share = share_for_work(own, 0.0)
    assert (share.tokens, share.usd, share.wall_s) == (800, pytest.approx(1.6), None)


def test_what_is_spent_or_reserved_by_others_is_not_shared_out():
    above = Purse(Budget(tool_calls=9, wall_s=100.0))
    own = Purse(Budget(tokens=100), None, above)
    above.enter(10.0)
    above.reserve_tools(9, 10.0)
    assert share_for_work(own, 60.0) == Budget(tokens=80, wall_s=40.0)


def test_no_bound_stays_none():
    assert share_for_work(Purse(Budget()), 0.0) == Budget()
