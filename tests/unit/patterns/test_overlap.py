"""Rounds that overlap: nobody waits without need, nobody runs ahead too far, and nothing written is lost."""

import asyncio
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.patterns.blackboard import Blackboard
from aurora_swarm.patterns.rounds import Crew, Rounds

from .conftest import on_fleet

ROLES = ("hypotheses", "critiques")


def prompt_fn(role, board):
    return json.dumps(board) + f"\nYou write {role}."


def timed(board, rounds, *, staleness, slow=1.0, n=8, **options):
    """Seconds of a run in which one agent in eight takes `slow` times as long, in every third round."""
    asked = dict.fromkeys(range(n), 0)

    def delay(_, endpoint):
        place = int(endpoint.host[4:])
        asked[place] += 1
        return slow if asked[place] % n == place else 1.0

    async def use(pool):
        session = await board.run(pool, rounds, staleness=staleness)
        return session, asyncio.get_running_loop().time()

    (session, took), prompts = on_fleet(use, n=n, script=lambda c, e: "text", roles=ROLES, delay_s=delay, **options)
    return session, took, prompts


@pytest.mark.parametrize("staleness", [0, 1, 3])
def test_everybody_writes_in_every_round(staleness):
    session, _, prompts = timed(Blackboard(ROLES, prompt_fn), 5, staleness=staleness, slow=3.0)
    assert (session.rounds, session.responses.n_ok, len(prompts)) == (5, 40, 40)
    assert {section: len(texts) for section, texts in session.items()} == {"hypotheses": 20, "critiques": 20}


def test_stragglers_who_take_turns_hold_nobody_up_within_the_bound():
    in_step = timed(Blackboard(ROLES, prompt_fn), 8, staleness=None, slow=5.0)[1]
    strict = timed(Blackboard(ROLES, prompt_fn), 8, staleness=0, slow=5.0)[1]
    loose = timed(Blackboard(ROLES, prompt_fn), 8, staleness=4, slow=5.0)[1]
    assert loose == pytest.approx(12.0)  # what every agent needs alone: seven quick turns and a slow one
    assert strict == pytest.approx(40.0)
    assert in_step > strict


def test_nobody_reads_a_board_that_lacks_more_than_the_bound():
    dice = random.Random(1)
    board = Blackboard(["hypotheses"], lambda role, board: json.dumps(board), board_tokens=None)
    begun = []

    def script(call, endpoint):
        shown = json.loads(call.messages[-1].content)["hypotheses"]
        own = sum(text == endpoint.host for text in shown)
        begun.append((own, min(sum(text == f"node{n}" for text in shown) for n in range(6))))
        return endpoint.host

    async def use(pool):
        return await board.run(pool, 6, staleness=2)

    on_fleet(use, n=6, script=script, roles=ROLES[:1], delay_s=lambda c, e: dice.expovariate(1.0))
    assert len(begun) == 36
    assert max(own - least for own, least in begun) == 2


def test_a_quorum_goes_on_without_an_agent_that_hangs():
    board = Blackboard(["hypotheses"], prompt_fn, quorum=3)

    async def use(pool):
        return await board.run(pool, 4, staleness=1), asyncio.get_running_loop().time()

    slow = {"node3": 2.5}
    (session, took), _ = on_fleet(
        use, n=4, script=lambda c, e: e.host, roles=ROLES[:1], delay_s=lambda c, e: slow.get(e.host, 1.0)
    )
    assert took == pytest.approx(4.0)
    assert session["hypotheses"].count("node3") == 1
    assert session.rounds == 4


def test_below_the_quorum_the_run_ends_with_the_reason():
    def script(call, endpoint):
        return errors.RequestRejectedError("too long") if endpoint.host != "node0" else "text"

    board = Blackboard(["hypotheses"], prompt_fn, quorum=0.5)

    async def use(pool):
        with pytest.raises(errors.QuorumError, match=r"1 of 4 answers are in the result, 2 are needed.*too long"):
            await board.run(pool, 2, staleness=1)

    on_fleet(use, n=4, script=script, roles=ROLES[:1])
    assert board.board == {"hypotheses": ["text"]}


def test_a_failure_now_and_then_holds_no_round_up():
    def script(call, endpoint):
        return errors.RequestRejectedError("no") if endpoint.host == "node1" else "text"

    async def use(pool):
        return await Blackboard(["hypotheses"], prompt_fn).run(pool, 3, staleness=1)

    session, _ = on_fleet(use, n=4, script=script, roles=ROLES[:1])
    assert (session.rounds, session.responses.n_ok, session.responses.n_failed) == (3, 9, 3)


def test_convergence_is_looked_at_after_every_complete_round():
    sizes = []

    def converges(board):
        sizes.append(len(board["critiques"]))
        return len(sizes) == 2

    async def use(pool):
        session = await Blackboard(ROLES, prompt_fn).run(pool, 9, converges, staleness=1)
        with pytest.raises(ZeroDivisionError):
            await Blackboard(ROLES, prompt_fn).run(pool, 9, lambda board: 1 / 0 > 0, staleness=1)
        return session

    session, _ = on_fleet(use, n=4, script=lambda c, e: "text", roles=ROLES)
    assert (session.rounds, session.converged) == (2, True)
    assert sizes[0] >= 2


@given(st.floats(0.5, 12.0), st.integers(0, 3), st.integers(0, 1000))
def test_a_run_that_was_stopped_anywhere_goes_on_without_asking_anyone_twice(stop_s, staleness, seed):
    async def stopped(pool):
        board = Blackboard(ROLES, prompt_fn)
        run = asyncio.ensure_future(board.run(pool, 4, staleness=staleness))
        await asyncio.sleep(stop_s)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        return json.loads(json.dumps(board.snapshot()))

    fleet = {"n": 4, "script": lambda c, e: e.host, "roles": ROLES, "seed": seed, "delay_s": 1.0}
    dice = random.Random(seed)
    fleet["delay_s"] = lambda c, e: dice.uniform(0.2, 2.0)
    snapshot, _ = on_fleet(stopped, **fleet)
    resumed = Blackboard(ROLES, prompt_fn)
    resumed.restore(snapshot)
    session, after = on_fleet(lambda pool: resumed.run(pool, 4, staleness=staleness), **fleet)
    assert len(after) == 16 - len(snapshot["entries"])
    assert {section: sorted(texts) for section, texts in session.items()} == {
        "hypotheses": ["node0"] * 4 + ["node2"] * 4,
        "critiques": ["node1"] * 4 + ["node3"] * 4,
    }


def test_a_negative_staleness_is_refused():
    async def use(pool):
        with pytest.raises(errors.UsageError, match="staleness -1"):
            await Blackboard(ROLES, prompt_fn).run(pool, 2, staleness=-1)

    on_fleet(use, roles=ROLES)


@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=60))
def test_rounds_complete_in_order_and_only_with_enough_answers(ends):
    crews = [Crew(3, 2, patient=False), Crew(2, 1, patient=True)]
    rounds, counts, turn = Rounds(crews, 1, 0), [{}, {}], [0, 0]
    for crew, answered in ends:
        number = turn[crew] // crews[crew].size
        if not rounds.may_begin(number) or rounds.short() is not None:
            continue
        turn[crew] += 1
        rounds.end(crew, number, answered=answered)
        counts[crew][number] = counts[crew].get(number, 0) + answered
        while rounds.advance():
            done = rounds.completed - 1
            assert counts[0].get(done, 0) >= 2
            assert counts[1].get(done, 0) >= 1
            assert turn[1] >= 2 * rounds.completed
    assert not rounds.may_begin(rounds.completed + 2)
