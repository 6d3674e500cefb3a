"""Rounds on a shared board: nothing written is lost, prompts stay short, a run goes on where it was stopped."""

import asyncio
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.patterns.blackboard import Blackboard, Entry

from .conftest import on_fleet

ROLES = ("hypotheses", "critiques")


def said(call, endpoint):
    """The agent, and how many entries it was shown."""
    prompt = call.messages[-1].content
    return f"{endpoint.host} saw {len(re.findall('saw', prompt))}"


def prompt_fn(role, board):
    return json.dumps(board) + f"\nYou write {role}."


def test_agents_write_into_the_section_of_their_role_round_by_round():
    board = Blackboard(ROLES, prompt_fn, board_tokens=None)

    async def use(pool):
        return await board.run(pool, max_rounds=2)

    session, prompts = on_fleet(use, n=4, script=said, roles=ROLES)
    assert session == board.board
    assert session["hypotheses"] == ["node0 saw 0", "node2 saw 0", "node0 saw 4", "node2 saw 4"]
    assert session["critiques"] == ["node1 saw 2", "node3 saw 2", "node1 saw 6", "node3 saw 6"]
    assert (session.rounds, session.converged, session.responses.n_ok) == (2, False, 8)
    assert len(set(prompts)) == 4


def test_convergence_ends_the_run_and_what_it_raises_does_too():
    async def use(pool):
        session = await Blackboard(ROLES, prompt_fn).run(pool, 10, lambda board: len(board["critiques"]) >= 6)
        with pytest.raises(ZeroDivisionError):
            await Blackboard(ROLES, prompt_fn).run(pool, 10, lambda board: 1 / 0 > 0)
        return session

    session, _ = on_fleet(use, n=4, script=said, roles=ROLES)
    assert (session.rounds, session.converged) == (3, True)


def test_roles_without_a_section_do_not_take_part():
    async def use(pool):
        session = await Blackboard(["critiques", "summaries"], prompt_fn).run(pool, 1)
        with pytest.raises(errors.NoEndpointsError, match="no endpoint works on this board"):
            await Blackboard(["other"], prompt_fn).run(pool, 1)
        return session

    session, prompts = on_fleet(use, n=4, script=said, roles=ROLES)
    assert {section: len(texts) for section, texts in session.items()} == {"critiques": 2, "summaries": 0}
    assert len(prompts) == 2


@pytest.mark.parametrize("size", [32, 512])
def test_a_prompt_is_as_long_for_many_agents_as_for_few(size):
    board = Blackboard(["hypotheses"], prompt_fn, board_tokens=600)

    async def use(pool):
        await board.run(pool, 3)

    _, prompts = on_fleet(use, n=size, script=lambda c, e: "x" * 50, roles=ROLES[:1], concurrency=512)
    longest = max(map(len, prompts))
    assert 600 <= longest <= 750
    assert len(prompts) == 3 * size


@given(st.integers(1, 200), st.randoms(use_true_random=False))
def test_writes_in_any_order_and_more_than_once_make_the_same_board(count, dice):
    entries = [Entry(ROLES[n % 2], n // 20, f"agent {n % 20:02}", f"text {n}") for n in range(count)]
    boards = []
    for _ in range(2):
        board = Blackboard(ROLES, prompt_fn)
        for entry in dice.sample(entries, count) + dice.choices(entries, k=10):
            board.write(entry)
        boards.append(board.board)
    assert boards[0] == boards[1]
    assert sorted(text for texts in boards[0].values() for text in texts) == sorted(e.text for e in entries)


def test_ten_thousand_writes_lose_none():
    entries = [Entry("hypotheses", n // 100, f"agent {n % 100}", str(n)) for n in range(10_000)]
    board = Blackboard(["hypotheses"], prompt_fn)
    for entry in random.Random(1).sample(entries, len(entries)):
        board.write(entry)
    assert sorted(map(int, board.board["hypotheses"])) == list(range(10_000))


def test_an_entry_is_never_replaced():
    board = Blackboard(ROLES, prompt_fn)
    board.write(Entry("hypotheses", 0, "a", "one"))
    with pytest.raises(errors.UsageError, match="a has written into section 'hypotheses', round 0 already"):
        board.write(Entry("hypotheses", 0, "a", "two"))
    with pytest.raises(errors.UsageError, match="no section 'other'"):
        board.write(Entry("other", 0, "a", "one"))


def test_a_run_that_was_stopped_goes_on_without_asking_anyone_twice():
    whole = Blackboard(ROLES, prompt_fn)
    on_fleet(lambda pool: whole.run(pool, 3), n=6, script=said, roles=ROLES)

    async def stopped(pool):
        board = Blackboard(ROLES, prompt_fn)
        run = asyncio.ensure_future(board.run(pool, 3))
        await asyncio.sleep(3.5)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return json.loads(json.dumps(board.snapshot()))

    snapshot, _ = on_fleet(stopped, n=6, script=said, roles=ROLES, delay_s=lambda c, e: 1.0)
    resumed = Blackboard(ROLES, prompt_fn)
    resumed.restore(snapshot)
    session, after = on_fleet(lambda pool: resumed.run(pool, 3), n=6, script=said, roles=ROLES)
    assert session == whole.board
    assert snapshot["round"] == 1
    assert len(after) == 18 - len(snapshot["entries"])


def test_below_the_quorum_the_round_fails_and_what_was_written_stays():
    def script(call, endpoint):
        return errors.RequestRejectedError("no") if endpoint.host != "node0" else "text"

    board = Blackboard(["hypotheses"], prompt_fn, quorum=0.5)

    async def use(pool):
        with pytest.raises(errors.QuorumError, match="1 of 4 answers are in the result, 2 are needed"):
            await board.run(pool, 2)

    on_fleet(use, n=4, script=script, roles=ROLES[:1])
    assert board.board == {"hypotheses": ["text"]}
    assert board.round == 0


def test_a_straggler_is_not_waited_for_beyond_the_quorum():
    board = Blackboard(["hypotheses"], prompt_fn, quorum=3)

    async def use(pool):
        await board.run(pool, 4)
        return asyncio.get_running_loop().time()

    took, _ = on_fleet(use, n=4, roles=ROLES[:1], delay_s=lambda c, e: 100.0 if e.host == "node3" else 1.0)
    assert took < 10


@pytest.mark.parametrize("sections", [[], ["a", "a"]])
def test_sections_are_checked(sections):
    with pytest.raises(errors.UsageError, match="sections are"):
        Blackboard(sections, prompt_fn)


@pytest.mark.parametrize("snapshot", [{}, {"round": 1, "entries": [{"a": 1}]}, {"round": "x", "entries": []}])
def test_what_is_no_snapshot_is_refused(snapshot):
    with pytest.raises(errors.UsageError, match="no snapshot"):
        Blackboard(ROLES, prompt_fn).restore(snapshot)
