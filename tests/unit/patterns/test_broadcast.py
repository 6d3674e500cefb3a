"""One prompt, every agent."""

import pytest

from aurora_swarm import errors
from aurora_swarm.patterns.broadcast import broadcast, broadcast_and_reduce

from .conftest import REDUCE, on_fleet, supervisor


def by_host(call, endpoint):
    prompt = call.messages[-1].content
    return supervisor()(call, endpoint) if prompt.startswith("REDUCE") else f"<{endpoint.host[4:]}>"


def test_every_endpoint_answers_for_itself():
    async def use(pool):
        return await broadcast(pool, "who?")

    responses, _ = on_fleet(use, script=by_host)
    assert [r.text for r in responses] == [f"<{i}>" for i in range(8)]
    assert [r.agent_index for r in responses] == [r.index for r in responses] == list(range(8))
    assert (responses.n_ok, responses.missing, responses.attempts) == (8, (), 8)


def test_a_quorum_leaves_the_straggler_out_and_says_so():
    async def use(pool):
        return await broadcast(pool, "who?", quorum=0.75)

    responses, _ = on_fleet(use, script=by_host, delay_s=lambda c, e: 100.0 if e.host in {"node1", "node2"} else 1.0)
    assert (responses.n_ok, responses.missing) == (6, (1, 2))
    assert str(responses[1].error) == "http://node1:8000: not waited for: 6 of 8 had answered"
    assert responses[1].endpoint.host == "node1"


def test_what_is_not_waited_for_is_cancelled():
    async def use(pool):
        await broadcast(pool, "who?", quorum=1)
        return pool.statistics()

    statistics, _ = on_fleet(use, script=by_host)
    assert statistics.outstanding == statistics.waiting == 0


def test_failures_are_left_out_of_what_is_reduced():
    def script(call, endpoint):
        asked = not call.messages[-1].content.startswith("REDUCE")
        return errors.RequestRejectedError("no") if asked and endpoint.host == "node3" else by_host(call, endpoint)

    async def use(pool):
        return await broadcast_and_reduce(pool, "who?", REDUCE, 2)

    result, _ = on_fleet(use, script=script)
    assert result.text == "<0><1><2><4><5><6><7>"
    assert result.endpoint.host == "node2"
    assert (result.n_ok, result.n_failed, result.missing, result.attempts) == (7, 1, (3,), 9)


def test_nothing_is_reduced_below_the_quorum():
    async def use(pool):
        return await broadcast_and_reduce(pool, "who?", REDUCE, quorum=1.0)

    def script(call, endpoint):
        return errors.RequestRejectedError("no") if endpoint.host == "node3" else by_host(call, endpoint)

    result, prompts = on_fleet(use, script=script)
    assert isinstance(result.error, errors.QuorumError)
    assert not any(c.startswith("REDUCE") for c in prompts)


@pytest.mark.parametrize("quorum", [0, 9, 0.0, 1.1, -1])
def test_a_quorum_that_cannot_be_met_is_refused(quorum):
    async def use(pool):
        with pytest.raises(errors.UsageError, match="quorum is"):
            await broadcast(pool, "who?", quorum=quorum)

    on_fleet(use)
