"""Prompts that begin alike are found, spread fairly, and kept together where the engine's cache needs it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm.dispatch.prefixes import BOUND, BOUND_FLOOR, Gate, Homes, groups, plan

A, B = "a" * 600, "b" * 5000


def test_groups_share_their_beginning():
    found = groups([A + "1", B + "1", "short", A + "2", B + "2", "c" * 700])
    assert found[0] == found[3] != ""
    assert found[1] == found[4] not in {"", found[0]}
    assert found[2] == found[5] == ""


def test_a_common_header_does_not_hide_the_groups_below_it():
    found = groups([A + name * 600 + str(i) for i in range(3) for name in "xyz"])
    assert len(set(found)) == 3
    assert found[0] == found[3]


def test_where_all_share_everything_no_place_is_better():
    assert groups([A + str(i) for i in range(5)]) == [""] * 5
    assert groups([]) == []


@given(st.lists(st.sampled_from("abcdef"), max_size=60), st.integers(1, 8))
def test_a_plan_is_complete_and_fair(letters, size):
    found = [letter if letter != "f" else "" for letter in letters]
    pins = plan(found, range(10, 10 + size))
    assert [pin is None for pin in pins] == [not group for group in found]
    per_endpoint = Counter(pin for pin in pins if pin is not None)
    cap = max(2, -(-BOUND * sum(map(bool, found)) // size))
    assert all(10 <= pin < 10 + size and n <= cap for pin, n in per_endpoint.items())


def test_groups_that_fit_are_not_split():
    pins = plan([g for g in "abcd" for _ in range(16)], [0, 1])
    assert all(len(set(pins[i : i + 16])) == 1 for i in range(0, 64, 16))
    assert Counter(pins) == {0: 32, 1: 32}


def test_a_group_larger_than_a_share_spreads():
    assert len(set(plan(["a"] * 90 + ["b"] * 10, range(4)))) == 4


def test_a_prefix_sticks_while_the_load_is_bounded():
    loads = [0, 0, 0, 0]
    homes = Homes(loads)
    assert homes.choose("p", 0, lambda i: True) is None
    homes.note("p", 2)
    assert homes.choose("p", 0, lambda i: True) == 2
    assert homes.choose("p", 0, lambda i: i != 2) is None
    loads[2] = 50
    total = sum(loads)
    assert loads[2] >= BOUND * total / 4 + BOUND_FLOOR
    assert homes.choose("p", total, lambda i: True) is None
    homes.note("p", 1)
    assert homes.choose("p", total, lambda i: True) == 1


def ask(gate, prefix, count, told, index=0):
    """Some calls of a prefix that come together; their names go to `told` when they are let in."""
    for number in range(count):
        gate.wait(index, prefix, lambda cold, name=f"{prefix}{number}": told.append((name, cold)))


def test_calls_that_come_together_share_the_slots():
    gate, told = Gate({0: 4}), []
    ask(gate, "a", 5, told)
    ask(gate, "b", 5, told)
    gate.open(0)
    assert told == [("a0", True), ("a1", True), ("b0", True), ("b1", True)]
    gate.leave(0, "a", cold=True, took_s=9.0)
    assert told[4:] == [("a2", False)]


def test_no_more_prefixes_than_slots_are_under_way():
    gate, told = Gate({0: 2}), []
    for prefix in "abc":
        ask(gate, prefix, 2, told)
    gate.open(0)
    assert told == [("a0", True), ("b0", True)]
    gate.leave(0, "a", cold=True, took_s=9.0)
    assert told[2:] == [("a1", False)]
    gate.leave(0, "a", cold=False, took_s=1.0)
    assert told[3:] == [("c0", True)]


def test_a_prefix_takes_a_further_slot_only_if_that_is_quicker_than_waiting():
    for count, expected in ((10, 0), (40, 1)):
        gate, told = Gate({0: 2}), []
        ask(gate, "a", count, told)
        ask(gate, "b", 2, told)
        gate.open(0)
        gate.leave(0, "b", cold=True, took_s=20.0)
        gate.leave(0, "b", cold=False, took_s=1.0)
        assert told[:3] == [("a0", True), ("b0", True), ("b1", False)]
        assert len(told) - 3 == expected


def test_spare_slots_are_used():
    gate, told = Gate({0: 8}), []
    for prefix in "abc":
        ask(gate, prefix, 8, told)
    gate.open(0)
    assert Counter(name[0] for name, _ in told) == {"a": 3, "b": 3, "c": 2}


@given(st.lists(st.tuples(st.sampled_from(["ask", "leave", "withdraw"]), st.sampled_from("abc")), max_size=80))
def test_a_gate_forgets_nobody(steps):
    gate = Gate({0: 4})
    inside, waiting = Counter(), {name: [] for name in "abc"}

    def let_in(name, token):
        waiting[name].remove(token)
        inside[name] += 1

    for action, name in steps:
        if action == "ask":
            token = []
            token.append(lambda cold, name=name, token=token: let_in(name, token))
            waiting[name].append(token)
            gate.wait(0, name, token[0])
            gate.open(0)
        elif action == "withdraw" and waiting[name]:
            token = waiting[name].pop()
            assert gate.withdraw(0, name, token[0])
        elif action == "leave" and inside[name]:
            inside[name] -= 1
            gate.leave(0, name, cold=False, took_s=1.0)
        assert sum(inside.values()) <= 4
    for _ in range(200):
        for name in "abc":
            if inside[name]:
                inside[name] -= 1
                gate.leave(0, name, cold=True, took_s=2.0)
    assert not any(waiting.values())
