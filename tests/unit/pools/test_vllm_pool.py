"""What a pool of OpenAI-compatible servers is made with."""

import pytest

from aurora_swarm.errors import SettingsError, UsageError
from aurora_swarm.pools.vllm_pool import VLLMPool
from aurora_swarm.testing.faulty_server import FaultyServer
from aurora_swarm.testing.virtual_time import run_virtual
from aurora_swarm.transports.scripted import ScriptedTransport
from aurora_swarm.values.endpoint import AgentEndpoint
from aurora_swarm.values.reply import EndpointInfo

FLEET = [AgentEndpoint("node")]


def pool_of(**options):
    return VLLMPool(FLEET, "m", transport=ScriptedTransport([]), **options)


def bound_of(monkeypatch, environ, asked=None, **options):
    """The bound on tokens that a prompt is sent with."""
    for name, value in environ.items():
        monkeypatch.setenv(f"AURORA_SWARM_{name}", value)
    transport = ScriptedTransport(lambda call, _: "yes", info=EndpointInfo((), 4096))

    async def main():
        async with VLLMPool(FLEET, "m", transport=transport, **options) as pool:
            await pool.post(0, "hi", asked)

    run_virtual(main())
    return transport.calls[0][1].sampling.max_tokens


def test_the_bound_is_the_calls_own_else_the_pools_else_the_environments(monkeypatch):
    assert bound_of(monkeypatch, {}) is None
    assert bound_of(monkeypatch, {"MAX_TOKENS": "100"}) == 100
    assert bound_of(monkeypatch, {}, max_tokens=200) == 200
    assert bound_of(monkeypatch, {}, 300, max_tokens=200) == 300


def test_the_bound_of_the_call_is_within_the_context_too(monkeypatch):
    assert bound_of(monkeypatch, {}, 9000) < 4096
    assert bound_of(monkeypatch, {}, 9000, model_max_context=2048) < 2048
    assert bound_of(monkeypatch, {"MODEL_MAX_CONTEXT": "1024"}, 9000) < 1024


def test_aggregation_may_generate_twice_as_much_where_nobody_says(monkeypatch):
    assert pool_of().runtime.policy.max_tokens_aggregation is None
    assert pool_of(max_tokens=100).runtime.policy.max_tokens_aggregation == 200
    monkeypatch.setenv("AURORA_SWARM_MAX_TOKENS_AGGREGATION", "700")
    assert pool_of(max_tokens=100).runtime.policy.max_tokens_aggregation == 700
    assert pool_of(max_tokens=100, max_tokens_aggregation=50).runtime.policy.max_tokens_aggregation == 50


def test_the_time_per_sequence_is_read_from_the_environment(monkeypatch):
    assert pool_of().runtime.policy.timeout_per_sequence == 60
    monkeypatch.setenv("AURORA_SWARM_TIMEOUT_PER_SEQUENCE", "2.5")
    assert pool_of().runtime.policy.timeout_per_sequence == 2.5
    assert pool_of(timeout_per_sequence=9).runtime.policy.timeout_per_sequence == 9


def test_a_variable_that_holds_nonsense_is_refused(monkeypatch):
    monkeypatch.setenv("AURORA_SWARM_MODEL_MAX_CONTEXT", "many")
    with pytest.raises(SettingsError, match="MODEL_MAX_CONTEXT"):
        pool_of()


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_concurrency": 0},
        {"buffer": -1},
        {"model_max_context": -5},
        {"max_tokens_aggregation": -5},
        {"timeout_per_sequence": -1.0},
        {"batch_timeout_cap": float("nan")},
    ],
)
def test_numbers_that_are_not_positive_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        pool_of(**wrong)


@pytest.mark.parametrize(("template", "path"), [("server", "/v1/chat/completions"), ("raw", "/v1/completions")])
async def test_a_prompt_is_sent_with_the_servers_template_unless_none_is_wanted(template, path):
    async with FaultyServer() as server:
        async with VLLMPool([server.endpoint], "m", template=template) as pool:
            assert [response.text for response in await pool.send_all(["a", "b"])] == ["a", "b"]
            assert [response.text for response in await pool.send_all_batched(["c", "d"])] == ["c", "d"]
        posts = [request.path for request in server.requests if request.method == "POST"]
    expected = [path] * 4 if template == "server" else [path] * 3
    assert [each for each in posts if not each.endswith("/batch")] == expected


def test_an_unknown_template_is_refused():
    with pytest.raises(UsageError, match="template"):
        VLLMPool(FLEET, template="none")
