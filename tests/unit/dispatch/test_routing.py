"""The router sends work to the least loaded endpoint that may take it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.dispatch.routing import Router


def test_equal_endpoints_are_used_in_turn():
    router = Router(4)
    view = router.view(range(4))
    assert [router.take_least(view) for _ in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]


def test_an_endpoint_that_finishes_early_gets_the_next_call():
    router = Router(3)
    view = router.view(range(3))
    for _ in range(6):
        router.take_least(view)
    router.give(1)
    assert router.take_least(view) == 1


def test_a_closed_endpoint_gets_nothing_until_it_opens():
    router = Router(2)
    view = router.view(range(2))
    router.set_limit(0, 0)
    assert {router.take_least(view) for _ in range(5)} == {1}
    router.set_limit(0, 10)
    assert router.take_least(view) == 0


def test_a_limit_is_never_exceeded():
    router = Router(2)
    view = router.view(range(2))
    router.set_limit(0, 1)
    router.set_limit(1, 2)
    assert Counter(router.take_least(view) for _ in range(5)) == {0: 1, 1: 2, None: 2}


def test_endpoints_to_avoid_are_taken_only_when_nothing_else_is_free():
    router = Router(2)
    view = router.view(range(2))
    assert [router.take_least(view, frozenset({0})) for _ in range(3)] == [1, 1, 1]
    router.set_limit(1, 0)
    assert router.take_least(view, frozenset({0})) == 0


def test_a_view_sees_the_load_that_another_view_causes():
    router = Router(3)
    _everyone, pair = router.view(range(3)), router.view([0, 1])
    for _ in range(5):
        router.take(0)
    assert [router.take_least(pair) for _ in range(3)] == [1, 1, 1]


def test_a_view_is_out_when_all_its_members_are_closed():
    router = Router(3)
    pair = router.view([0, 1])
    router.set_limit(0, 0)
    assert not pair.out
    router.set_limit(1, 0)
    assert pair.out
    router.set_limit(1, 1)
    assert not pair.out


@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["take", "give", "close", "open"]), st.integers(0, 5)), max_size=80),
)
def test_every_pick_has_the_least_load_of_the_free_ones(size, steps):
    router = Router(size)
    view = router.view(range(size))
    for action, number in steps:
        index = number % size
        if action == "take":
            free = [i for i in range(size) if router.is_free(i)]
            least = min((router.loads[i] for i in free), default=None)
            taken = router.take_least(view)
            assert (taken is None) == (least is None)
            assert taken is None or (taken in free and router.loads[taken] == least + 1)
        elif action == "give" and router.loads[index]:
            router.give(index)
        elif action in {"close", "open"}:
            router.set_limit(index, 0 if action == "close" else 3)
