"""Prefix caches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.testing.fleet import ServerPlan
from aurora_swarm.testing.fleet.caches import BLOCK_TOKENS, BlockCache, SlotCache, open_cache

SHARED = "".join(f"word {number} " for number in range(200))


def test_a_shared_beginning_is_cached_from_the_second_time_on():
    cache = BlockCache(1000)
    assert cache.begin(SHARED + "one", -1)[0] == 0
    cached, _ = cache.begin(SHARED + "another", -1)
    assert 0 <= len(SHARED) / 4 - cached < BLOCK_TOKENS


def test_a_block_counts_only_behind_its_own_beginning():
    cache = BlockCache(1000)
    cache.begin("a" * 640 + SHARED, -1)
    assert cache.begin("b" * 640 + SHARED, -1)[0] == 0


def test_the_oldest_blocks_go_first():
    cache = BlockCache(20)
    cache.begin("a" * 640, -1)
    cache.begin("b" * 640, -1)
    assert cache.begin("a" * 640, -1)[0] == 160
    cache.begin("c" * 640, -1)
    assert cache.begin("b" * 640, -1)[0] == 0


def test_no_blocks_are_no_cache():
    cache = BlockCache(0)
    assert [cache.begin(SHARED, -1)[0] for _ in range(2)] == [0, 0]


def test_each_slot_computes_a_prefix_by_itself():
    cache = SlotCache(2)
    first, slot = cache.begin(SHARED, -1)
    other, _ = cache.begin(SHARED, -1)
    assert (first, other) == (0, 0)
    cache.end(slot)
    assert cache.begin(SHARED, -1) == (len(SHARED) // 4, slot)


def test_a_prompt_goes_to_the_slot_that_knows_most_of_it():
    cache = SlotCache(2)
    _, one = cache.begin("left " * 100, -1)
    _, two = cache.begin("right " * 100, -1)
    cache.end(one)
    cache.end(two)
    assert cache.begin("right " * 90 + "end", -1)[1] == two


def test_a_slot_can_be_asked_for():
    cache = SlotCache(4)
    assert cache.begin("x", 3)[1] == 3
    assert cache.begin("x", 3)[1] != 3


@given(st.lists(st.text("ab", max_size=200), max_size=20), st.integers(1, 3))
def test_slots_are_never_lost_nor_given_twice(prompts, slots):
    cache = SlotCache(slots)
    held: list[int] = []
    for prompt in prompts:
        cached, slot = cache.begin(prompt, -1)
        assert 0 <= cached * 4 <= len(prompt)
        assert slot not in held
        assert (slot < 0) == (len(held) == slots)
        if slot >= 0:
            held.append(slot)
        if len(held) == slots:
            cache.end(held.pop(0))


def test_the_engine_decides_which_cache_it_has():
    assert isinstance(open_cache(ServerPlan(engine="llamacpp")), SlotCache)
    assert isinstance(open_cache(ServerPlan()), BlockCache)
