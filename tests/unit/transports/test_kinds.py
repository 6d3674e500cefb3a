"""What each kind of backend can do, and whose key is whose."""

from __future__ import annotations

import pytest

from aurora_swarm.errors import InputError
from aurora_swarm.transports.capabilities import CAPABILITIES, capabilities_of, meet
from aurora_swarm.transports.kinds import KEYS, capabilities_at, has_priority, kind_of, provider_key
from aurora_swarm.transports.open import KINDS, open_transport
from aurora_swarm.values.capabilities import Capabilities
from aurora_swarm.values.endpoint import AgentEndpoint

OWN = AgentEndpoint("node1", 8000)
OPENAI = AgentEndpoint("api.openai.com", 443, scheme="https")
ANTHROPIC = AgentEndpoint("api.anthropic.com", 443, scheme="https")
BEDROCK = AgentEndpoint("bedrock-runtime.eu-central-1.amazonaws.com", 443, scheme="https")
ENVIRON = {"OPENAI_API_KEY": "o", "ANTHROPIC_API_KEY": " a ", "AWS_BEARER_TOKEN_BEDROCK": "b"}


def test_every_kind_has_its_capabilities_and_a_transport() -> None:
    assert set(CAPABILITIES) == set(KINDS) - {"mixed"}


def test_only_providers_are_relied_on_for_tools() -> None:
    assert {kind for kind, known in CAPABILITIES.items() if known.native_tools} == set(KEYS)


def test_providers_are_asked_for_little_at_a_time() -> None:
    assert {capabilities_of(kind).concurrency for kind in KEYS} == {8, 16}
    assert {capabilities_of(kind).concurrency for kind in set(CAPABILITIES) - set(KEYS)} == {64}
    assert capabilities_at("openai", OWN).concurrency == 64
    assert capabilities_at("openai", OPENAI).concurrency == 16


def test_a_mixed_fleet_can_do_what_all_of_it_can() -> None:
    together = meet([capabilities_of("vllm", priority=True), capabilities_of("anthropic")])
    assert together == Capabilities(False, True, False, False, False, False, 8)
    assert meet([capabilities_of("openai")]) == capabilities_of("openai")
    assert not meet([capabilities_of("vllm"), capabilities_of("generate")]).schemas


@pytest.mark.parametrize(
    ("kind", "endpoint", "key"),
    [
        ("openai", OPENAI, "o"),
        ("anthropic", ANTHROPIC, "a"),
        ("bedrock", BEDROCK, "b"),
        ("openai", OWN, None),
        ("anthropic", OPENAI, None),
        ("openai", AgentEndpoint("api.openai.com", 80), None),
        ("anthropic", AgentEndpoint("api.anthropic.com.evil.example", 443, scheme="https"), None),
        ("bedrock", AgentEndpoint("bedrock-runtime.amazonaws.com.evil.example", 443, scheme="https"), None),
        ("bedrock", AgentEndpoint("bedrock-runtime-evil.amazonaws.com", 443, scheme="https"), None),
        ("vllm", OPENAI, None),
    ],
)
def test_a_providers_key_is_for_the_provider_alone(kind: str, endpoint: AgentEndpoint, key: str | None) -> None:
    assert provider_key(kind, endpoint, ENVIRON) == key
    assert provider_key(kind, endpoint, {KEYS.get(kind, "X"): " "}) is None


def test_tags_tell_kind_and_priority() -> None:
    tagged = AgentEndpoint("node1", 8000, {"backend": "sglang", "priority": "1"})
    assert (kind_of(tagged, "http"), has_priority(tagged)) == ("sglang", True)
    assert (kind_of(OWN, "http"), has_priority(OWN)) == ("http", False)
    assert capabilities_at("vllm", tagged).priority


@pytest.mark.parametrize("tags", [{"backend": "antropic"}, {"backend": "mixed"}, {"priority": "high"}])
def test_tags_that_mean_nothing_are_refused(tags: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        capabilities_at(kind_of(AgentEndpoint("node1", 8000, tags), "http"), AgentEndpoint("node1", 8000, tags))
    assert caught.value.remedy


async def test_opening_a_kind_sends_nothing() -> None:
    for kind in KINDS:
        transport = open_transport(kind, api_key="k")
        await transport.aclose()
        await transport.aclose()
