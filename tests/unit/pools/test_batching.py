"""Many prompts in few requests, each answered for itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_swarm import errors
from aurora_swarm.pools.agent_pool import AgentPool
from aurora_swarm.pools.batching import bundle_size, bundles, by_pin, send_all_batched, timeout_s
from aurora_swarm.pools.model_runtime import ModelPolicy
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo, Reply


def fleet(n):
    return [AgentEndpoint(f"node{i}") for i in range(n)]


class Server(ScriptedTransport):
    """Notes the bundles that arrive; says of each prompt what it is."""

    def __init__(self, script=lambda call, endpoint: f"about {call.messages[0].content}", context=None, **options):
        super().__init__(script, delay_s=0.1, info=EndpointInfo((), context), **options)
        self.bundles, self.timeouts, self.contexts = [], [], {}

    async def send_many(self, endpoint, calls, *, timeout_s):
        self.bundles.append((endpoint.host, [call.messages[0].content for call in calls]))
        self.timeouts.append(timeout_s)
        return await super().send_many(endpoint, calls, timeout_s=timeout_s)

    async def probe(self, endpoint, *, timeout_s):
        known = self.contexts.get(endpoint.host)
        return EndpointInfo((), known) if known else await super().probe(endpoint, timeout_s=timeout_s)


def with_pool(use, *, n=4, server=None, **options):
    server = server or Server()

    async def main():
        async with VLLMPool(fleet(n), "m", transport=server, **options) as pool:
            return await use(pool)

    return run_virtual(main()), server


def prompts_of(n):
    return [f"item {i}" for i in range(n)]


def assert_right(responses, prompts):
    assert [response.index for response in responses] == list(range(len(prompts)))
    assert [response.text for response in responses] == [f"about {prompt}" for prompt in prompts]


def test_a_list_goes_in_one_request_per_endpoint():
    prompts = prompts_of(100)
    responses, server = with_pool(lambda pool: pool.send_all_batched(prompts))
    assert_right(responses, prompts)
    assert sorted(host for host, _ in server.bundles) == ["node0", "node1", "node2", "node3"]
    assert {len(bundle) for _, bundle in server.bundles} == {25}


def test_bundles_are_as_large_as_is_allowed_and_of_one_size():
    prompts = prompts_of(300)
    responses, server = with_pool(lambda pool: pool.send_all_batched(prompts), batch_size=64)
    assert_right(responses, prompts)
    assert sorted(len(bundle) for _, bundle in server.bundles) == [34, *[38] * 7]


def test_few_prompts_idle_no_endpoint():
    _, server = with_pool(lambda pool: pool.send_all_batched(prompts_of(8)))
    assert [len(bundle) for _, bundle in server.bundles] == [2] * 4


@pytest.mark.parametrize("prompts", [[], ["item 0"]])
def test_there_is_no_bundle_of_one_or_none(prompts):
    responses, server = with_pool(lambda pool: pool.send_all_batched(prompts))
    assert_right(responses, prompts)
    assert server.bundles == []


def test_bundles_can_be_switched_off():
    prompts = prompts_of(20)
    responses, server = with_pool(lambda pool: pool.send_all_batched(prompts), use_batch=False)
    assert_right(responses, prompts)
    assert server.bundles == []


def test_servers_that_take_no_bundles_get_the_prompts_one_by_one():
    prompts = prompts_of(40)
    responses, server = with_pool(lambda pool: pool.send_all_batched(prompts), server=Server(batches=False))
    assert_right(responses, prompts)
    assert len(server.calls) == 40


def test_a_bad_prompt_fails_alone():
    def script(call, endpoint):
        text = call.messages[0].content
        return errors.RequestRejectedError("too rude") if text == "item 7" else f"about {text}"

    class Strict(Server):
        async def send_many(self, endpoint, calls, *, timeout_s):
            parts = await super().send_many(endpoint, calls, timeout_s=timeout_s)
            for part in parts:
                if isinstance(part, errors.CallError):
                    raise part
            return parts

    responses, _ = with_pool(lambda pool: pool.send_all_batched(prompts_of(32)), server=Strict(script))
    assert [response.index for response in responses if not response.success] == [7]
    assert isinstance(responses[7].error, errors.RequestRejectedError)


def test_parts_that_fail_are_asked_again():
    seen = set()

    def script(call, endpoint):
        text = call.messages[0].content
        if text in {"item 3", "item 9"} and text not in seen:
            seen.add(text)
            return errors.BadResponseError("the answer lacks this choice")
        return f"about {text}"

    prompts = prompts_of(32)
    responses, _ = with_pool(lambda pool: pool.send_all_batched(prompts), server=Server(script))
    assert_right(responses, prompts)
    assert [response.index for response in responses if response.attempts > 1] == [3, 9]


def test_prompts_that_begin_alike_travel_together():
    prompts = [("A" if i % 2 else "B") * 600 + f" item {i}" for i in range(40)]
    responses, server = with_pool(lambda pool: pool.send_all_batched(prompts), n=2)
    assert_right(responses, prompts)
    assert [len({text[0] for text in bundle}) for _, bundle in server.bundles] == [1, 1]


def test_the_time_of_a_bundle_grows_with_its_prompts():
    policy = ModelPolicy(timeout_per_sequence=10, batch_timeout_cap=500)
    assert [timeout_s(policy, n, 30.0) for n in (2, 20, 64)] == [30, 200, 500]
    _, server = with_pool(
        lambda pool: pool.send_all_batched(prompts_of(40)),
        n=2,
        timeout=30,
        timeout_per_sequence=10,
        batch_timeout_cap=500,
    )
    assert server.timeouts == [200, 200]


def test_only_so_many_bundles_are_under_way():
    class Counting(Server):
        under_way = most = 0

        async def send_many(self, endpoint, calls, *, timeout_s):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                return await super().send_many(endpoint, calls, timeout_s=timeout_s)
            finally:
                self.under_way -= 1

    prompts = prompts_of(80)
    responses, server = with_pool(
        lambda pool: pool.send_all_batched(prompts), n=8, server=Counting(), batch_concurrency=2
    )
    assert_right(responses, prompts)
    assert server.most == 2


def test_post_batch_asks_the_endpoint_that_is_named():
    prompts = prompts_of(100)
    responses, server = with_pool(lambda pool: pool.post_batch(2, prompts, max_tokens=9))
    assert_right(responses, prompts)
    assert {response.agent_index for response in responses} == {2}
    assert [(host, len(bundle)) for host, bundle in server.bundles] == [("node2", 64), ("node2", 36)]
    assert {call.sampling.max_tokens for _, call in server.calls} == {9}


def test_post_batch_without_bundles_still_asks_that_endpoint():
    responses, server = with_pool(lambda pool: pool.post_batch(1, prompts_of(5)), use_batch=False)
    assert {response.agent_index for response in responses} == {1}
    assert server.bundles == []


def test_post_batch_refuses_an_index_out_of_range():
    with pytest.raises(errors.UsageError, match="agent_index"):
        with_pool(lambda pool: pool.post_batch(4, ["x"]))


def test_a_prompt_goes_where_the_context_holds_it():
    server = Server(context=4096)
    server.contexts = {"node0": 1024}

    async def use(pool):
        for endpoint in pool.endpoints:
            await pool.runtime.facts.of(endpoint, wait_s=1)
        return await pool.send_all_batched(["word" * 2000 + str(i) for i in range(8)])

    responses, server = with_pool(use, server=server)
    assert all(response.success for response in responses)
    assert "node0" not in {host for host, _ in server.bundles}


def test_a_pool_of_plain_agents_sends_them_one_by_one():
    async def main():
        server = Server()
        async with AgentPool(fleet(2), transport=server) as pool:
            return await send_all_batched(pool, prompts_of(6)), server

    responses, server = run_virtual(main())
    assert_right(responses, prompts_of(6))
    assert server.bundles == []


@given(st.integers(1, 10_000), st.integers(1, 200), st.integers(1, 300))
def test_no_bundle_is_too_large_and_no_endpoint_is_left_out_for_a_larger_one(prompts, endpoints, most):
    size = bundle_size(prompts, endpoints, most)
    requests = len(bundles(range(prompts), size))
    assert 1 <= size <= most
    assert requests * size >= prompts
    if prompts <= endpoints:
        assert size == 1
    else:
        assert requests > endpoints / 2
        assert requests <= -(-prompts // most) + endpoints


def test_prompts_are_gathered_by_the_endpoint_that_they_prefer():
    assert by_pin([None, 3, None, 1, 3]) == {None: [0, 2], 3: [1, 4], 1: [3]}


def test_an_answer_keeps_what_the_server_counted():
    replies, _ = with_pool(
        lambda pool: pool.send_all_batched(prompts_of(4)), n=1, server=Server(lambda *_: Reply("x", "length"))
    )
    assert {reply.finish_reason for reply in replies} == {"length"}
