"""What engines tell to whoever looks: models, health, metrics, slots. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aurora_swarm.testing import answers
from aurora_swarm.testing.fleet.counts import Tally
from aurora_swarm.testing.fleet.http import JSON, TEXT
from aurora_swarm.testing.fleet.plan import ServerPlan

_Page = Callable[[ServerPlan, Tally], tuple[bytes, bytes]]


def page(path: bytes, plan: ServerPlan, tally: Tally) -> tuple[bytes, bytes] | None:
    """Body and content type of a ``GET``; None where the engine has no such page."""
    found = _PAGES.get((path, plan.engine)) or _PAGES.get((path, ""))
    return found(plan, tally) if found is not None else None


def _health(_plan: ServerPlan, _tally: Tally) -> tuple[bytes, bytes]:
    return b'{"status":"ok"}', JSON


def _models(plan: ServerPlan, _tally: Tally) -> tuple[bytes, bytes]:
    own: dict[str, Any] = {"id": plan.model, "object": "model", "created": 0, "owned_by": plan.engine}
    if plan.engine == "llamacpp":
        own["meta"] = {"n_ctx": plan.max_context, "n_ctx_train": plan.max_context}
    else:
        own["max_model_len"] = plan.max_context
    return answers.encode({"object": "list", "data": [own]}), JSON


def _anthropic_models(plan: ServerPlan, _tally: Tally) -> tuple[bytes, bytes]:
    own = {"type": "model", "id": plan.model, "display_name": plan.model, "created_at": "2026-01-01T00:00:00Z"}
    return answers.encode({"data": [own], "has_more": False, "first_id": plan.model, "last_id": plan.model}), JSON


def _props(plan: ServerPlan, _tally: Tally) -> tuple[bytes, bytes]:
    generation = {"n_ctx": plan.max_context}
    return answers.encode({"total_slots": plan.capacity, "default_generation_settings": generation}), JSON


def _vllm(plan: ServerPlan, tally: Tally) -> tuple[bytes, bytes]:
    return _metrics(
        f'{{engine="0",model_name="{plan.model}"}}',
        {
            "vllm:num_requests_running": tally.running,
            "vllm:num_requests_waiting": tally.queued,
            "vllm:kv_cache_usage_perc": min(tally.running / plan.capacity, 1.0),
            "vllm:prefix_cache_queries_total": tally.prompt_tokens,
            "vllm:prefix_cache_hits_total": tally.cached_tokens,
            "vllm:prompt_tokens_total": tally.prompt_tokens,
            "vllm:generation_tokens_total": tally.completion_tokens,
        },
    )


def _sglang(plan: ServerPlan, tally: Tally) -> tuple[bytes, bytes]:
    return _metrics(
        f'{{model_name="{plan.model}"}}',
        {
            "sglang:num_running_reqs": tally.running,
            "sglang:num_queue_reqs": tally.queued,
            "sglang:token_usage": min(tally.running / plan.capacity, 1.0),
            "sglang:cache_hit_rate": tally.cached_tokens / max(tally.prompt_tokens, 1),
            "sglang:prompt_tokens_total": tally.prompt_tokens,
            "sglang:generation_tokens_total": tally.completion_tokens,
        },
    )


def _llamacpp(_plan: ServerPlan, tally: Tally) -> tuple[bytes, bytes]:
    return _metrics(
        "",
        {
            "llamacpp:requests_processing": tally.running,
            "llamacpp:requests_deferred": tally.queued,
            "llamacpp:prompt_tokens_total": tally.prompt_tokens - tally.cached_tokens,
            "llamacpp:tokens_predicted_total": tally.completion_tokens,
        },
    )


def _metrics(labels: str, values: Mapping[str, float]) -> tuple[bytes, bytes]:
    """Prometheus text; what ends in ``_total`` is a counter."""
    lines: list[str] = []
    for name, value in values.items():
        lines += [f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}", f"{name}{labels} {value:.12g}"]
    return "\n".join([*lines, ""]).encode(), TEXT


_PAGES: Mapping[tuple[bytes, str], _Page] = {
    (b"/health", ""): _health,
    (b"/v1/models", "vllm"): _models,
    (b"/v1/models", "sglang"): _models,
    (b"/v1/models", "llamacpp"): _models,
    (b"/v1/models", "anthropic"): _anthropic_models,
    (b"/props", "llamacpp"): _props,
    (b"/metrics", "vllm"): _vllm,
    (b"/metrics", "sglang"): _sglang,
    (b"/metrics", "llamacpp"): _llamacpp,
}
